"""An Envoy that is not ours gets its identity over SDS from the Workload API, and is somebody in the mesh by it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.proxy.envoy import find_envoy
from tests.real.backend import Backend, header
from tests.real.fields_peer import Ask, Issuer, send
from tests.real.manifests import service, workload_entry
from tests.real.up import Up, eventually, free_port

pytestmark = pytest.mark.real

FOREIGN = "spiffe://cluster.local/ns/shop/sa/foreign"
WEB = "spiffe://cluster.local/ns/shop/sa/web"
MANIFESTS = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: foreign-only, namespace: shop}
spec:
  selector: {matchLabels: {app: app}}
  rules:
    - from: [{source: {principals: [cluster.local/ns/shop/sa/foreign]}}]
      to: [{operation: {paths: [/allowed]}}]
---
"""


def registered(executable: Path) -> str:
    return f"""\
apiVersion: isthmus.dev/v1alpha1
kind: WorkloadRegistration
metadata: {{name: foreign, namespace: shop}}
spec:
  serviceAccount: foreign
  selectors: {{uid: {os.geteuid()}, path: {executable}}}
---
"""


def secret(name: str) -> dict[str, Any]:
    """Envoy's SdsSecretConfig, as SPIRE's users write it; some in the one form of xDS, some in the other."""
    api = {
        "api_type": "DELTA_GRPC" if name in ("ALL", FOREIGN) else "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "workload_api"}}],
    }
    return {"name": name, "sds_config": {"api_config_source": api, "resource_api_version": "V3"}}


def tls(kind: str, bundle: str, certificate: str, **more: Any) -> dict[str, Any]:
    common = {
        "tls_certificate_sds_secret_configs": [secret(certificate)],
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": [
                    {"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/ns/shop/"}}
                ]
            },
            "validation_context_sds_secret_config": secret(bundle),
        },
    }
    package = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": f"{package}{kind}TlsContext", "common_tls_context": common, **more},
    }


def listener(port: int, transport_socket: dict[str, Any] | None, action: dict[str, Any]) -> dict[str, Any]:
    """``action``: of its one route."""
    package = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{package}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{package}.http.router.v3.Router"}},
        ],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    if transport_socket is not None:
        chain["transport_socket"] = transport_socket  # type: ignore[assignment]
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "enable_reuse_port": False,
        "filter_chains": [chain],
    }


def cluster(name: str, address: dict[str, Any], **more: Any) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address}}
    return {
        "name": name,
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        **more,
    }


def bootstrap(socket: str, sidecar: str, out: int, into: int) -> dict[str, Any]:
    """A client of the mesh on port ``out``, and a server that takes any SVID of it on port ``into``."""
    host, _, port = sidecar.rpartition(":")
    options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    h2 = {"@type": options, "explicit_http_config": {"http2_protocol_options": {}}}
    answered = {"direct_response": {"status": 200, "body": {"inline_string": "foreign"}}}
    return {
        "node": {"id": "foreign", "cluster": "foreign"},
        "static_resources": {
            "listeners": [
                listener(out, None, {"route": {"cluster": "app"}}),
                listener(into, tls("Downstream", "ALL", FOREIGN, require_client_certificate=True), answered),
            ],
            "clusters": [
                cluster(
                    "app",
                    {"socket_address": {"address": host, "port_value": int(port)}},
                    transport_socket=tls("Upstream", "ROOTCA", "default"),
                ),
                cluster(
                    "workload_api",
                    {"pipe": {"path": socket}},
                    typed_extension_protocol_options={"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": h2},
                ),
            ],
        },
    }


@dataclass(frozen=True, slots=True)
class Foreign:
    """A running mesh, and an Envoy beside it that no control plane of ours configures."""

    up: Up
    app: Backend
    out: int
    into: int

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.out}{path}", trust_env=False, verify=False, timeout=20)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    folder = tmp_path_factory.mktemp("foreign")
    executable = find_envoy().resolve()
    with Backend("app") as app:
        manifests = (
            MANIFESTS
            + registered(executable)
            + "---\n".join((service("app", "shop"), workload_entry("app-1", "shop", "app", app.port)))
        )
        with Up(folder, {"all.yaml": manifests}) as up:
            socket = str((up.state / "workload.sock").readlink())
            (sidecar,) = up.workload("app-1")["inbound"].values()
            out, into = free_port(), free_port()
            (folder / "envoy.json").write_text(json.dumps(bootstrap(socket, sidecar, out, into)))
            argv = (executable, "-c", folder / "envoy.json", "--disable-hot-restart", "--concurrency", "1")
            with (folder / "envoy.log").open("wb") as log:
                envoy = subprocess.Popen(argv, stdout=log, stderr=log)
            try:
                made = Foreign(up, app, out, into)
                eventually(lambda: made.get("/allowed").status_code == 200, 60)
                yield made
            finally:
                envoy.terminate()
                envoy.wait(60)


def test_it_is_whom_the_registration_says(foreign: Foreign) -> None:
    answer = foreign.get("/allowed")
    assert answer.status_code == 200
    assert f"URI={FOREIGN}" in (header(answer.json(), "x-forwarded-client-cert") or "")
    before = len(foreign.app.seen)
    assert foreign.get("/other").status_code == 403, "authorised as itself, and for no more than that"
    assert len(foreign.app.seen) == before


def test_it_takes_the_mesh_s_workloads_and_nobody_else(foreign: Foreign, tmp_path: Path) -> None:
    """By the bundle of every trust domain, each for its own."""
    issuer = Issuer.of(foreign.up, tmp_path)
    address = f"127.0.0.1:{foreign.into}"

    def status(certificate: Path) -> int:
        return send(address, Ask(certificate=certificate), foreign.up.ready["ca_bundle"]).status

    assert eventually(lambda: status(issuer.certificate(WEB)) == 200, 60)
    assert status(issuer.certificate("spiffe://other.example/ns/shop/sa/web")) == 0, "no bundle of that trust domain"
    assert status(issuer.certificate("spiffe://cluster.local/ns/bank/sa/web")) == 0, "not one that it asks for"
    assert status(Issuer.new(tmp_path).certificate(WEB)) == 0, "of an authority that nobody here knows"


def test_without_a_registration_it_is_nobody(foreign: Foreign, tmp_path: Path) -> None:
    """Another executable of the same user opens its listener, and has nothing to show."""
    copy = tmp_path / "envoy"
    shutil.copy(find_envoy(), copy)
    out = free_port()
    socket = str((foreign.up.state / "workload.sock").readlink())
    (sidecar,) = foreign.up.workload("app-1")["inbound"].values()
    (tmp_path / "envoy.json").write_text(json.dumps(bootstrap(socket, sidecar, out, free_port())))
    before = len(foreign.app.seen)
    log = tmp_path / "envoy.log"
    with log.open("wb") as written:
        argv = (copy, "-c", tmp_path / "envoy.json", "--disable-hot-restart", "--concurrency", "1")
        envoy = subprocess.Popen(argv, stdout=written, stderr=written)
    try:
        eventually(lambda: b"no identity issued" in log.read_bytes(), 60)
    finally:
        envoy.terminate()
        envoy.wait(60)
    assert len(foreign.app.seen) == before
