"""What the mesh configuration says about trust, on real Envoys; part of it changed while they run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.fields_authz import mesh_config
from tests.real.fields_peer import Ask, Issuer, inbound, send
from tests.real.manifests import service
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

MESH = "ConfigMap.data.mesh."
FOREIGN_PROXY = {"x-forwarded-for": "203.0.113.7"}
MANIFESTS = """\
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {{name: app, namespace: shop}}
spec:
  labels: {{app: app}}
  ports: [{{name: http, number: 8080, listen: {port}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  selector: {{istio: edge}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: app, namespace: shop}}
spec:
  hosts: [app.example.com]
  gateways: [edge]
  http: [{{route: [{{destination: {{host: app}}}}]}}]
---
"""


def denied(name: str, namespace: str, rule: dict[str, Any], labels: dict[str, str] | None = None) -> str:
    metadata = {"name": name, "namespace": namespace}
    spec: dict[str, Any] = {"action": "DENY", "rules": [rule]}
    if labels:
        spec["selector"] = {"matchLabels": labels}
    document = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}
    return json.dumps(document)


def at(path: str, **source: list[str]) -> dict[str, Any]:
    rule: dict[str, Any] = {"to": [{"operation": {"paths": [path]}}]}
    return {**rule, "from": [{"source": source}]} if source else rule


POLICIES = (
    denied("root", "mesh-root", at("/root")),
    denied("not-root", "istio-system", at("/not-root")),
    denied("admin", "shop", at("/admin")),
    denied("own", "shop", at("/own", principals=["corp.example/ns/shop/sa/web"])),
    denied("stands-for-own", "shop", at("/stands-for-own", principals=["cluster.local/ns/shop/sa/web"])),
    denied("namespace", "shop", at("/namespace", namespaces=["shop"])),
    denied("foreign", "shop", at("/foreign", remoteIpBlocks=["203.0.113.7"]), {"istio": "edge"}),
)


def config(normalization: str, hops: int) -> str:
    return mesh_config(
        trustDomain="corp.example",
        rootNamespace="mesh-root",
        pathNormalization={"normalization": normalization},
        defaultConfig={"gatewayTopology": {"numTrustedProxies": hops}},
    )


@dataclass(frozen=True, slots=True)
class Mesh:
    up: Up
    issuer: Issuer
    web: Path

    def status(self, path: str, certificate: Path | None = None) -> int:
        return send(inbound(self.up, "app", 8080), Ask(path, certificate=certificate or self.web)).status


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("settings")
    with Backend() as backend:
        manifests = {
            "config.json": config("MERGE_SLASHES", 1),
            "mesh.yaml": MANIFESTS.format(port=backend.port) + service("app", "shop"),
            **{f"policy-{index}.json": text for index, text in enumerate(POLICIES)},
        }
        with Up(folder, manifests) as up:
            issuer = Issuer.of(up, folder)
            yield Mesh(up, issuer, issuer.certificate("spiffe://corp.example/ns/shop/sa/web"))


@enforces(f"{MESH}trustDomain")
def test_trust_domain(mesh: Mesh) -> None:
    assert mesh.up.workload("app")["spiffe_id"] == "spiffe://corp.example/ns/shop/sa/default"
    assert mesh.status("/") == 200
    assert mesh.status("/", mesh.issuer.certificate("spiffe://cluster.local/ns/shop/sa/web")) == 0
    assert [mesh.status(path) for path in ("/own", "/stands-for-own", "/namespace")] == [403, 403, 403]
    batch = mesh.issuer.certificate("spiffe://corp.example/ns/bank/sa/batch")
    assert [mesh.status(path, batch) for path in ("/own", "/stands-for-own", "/namespace")] == [200, 200, 200]


@enforces(f"{MESH}rootNamespace")
def test_root_namespace(mesh: Mesh) -> None:
    assert mesh.status("/root") == 403
    assert mesh.status("/not-root") == 200


@enforces(f"{MESH}pathNormalization.normalization", f"{MESH}defaultConfig.gatewayTopology.numTrustedProxies")
def test_paths_and_hops_as_they_are_told(mesh: Mesh) -> None:
    def now() -> dict[str, int]:
        paths = ("//admin", "/x/../admin", "/x%2f..%2fadmin")
        return {path: mesh.status(path) for path in paths} | {
            "hops": mesh.up.get("http://app.example.com/foreign", headers=FOREIGN_PROXY).status_code
        }

    wanted = {"//admin": 403, "/x/../admin": 403, "/x%2f..%2fadmin": 200, "hops": 403}
    assert now() == wanted
    for normalization, hops, changed in (
        ("DECODE_AND_MERGE_SLASHES", 0, {"/x%2f..%2fadmin": 403, "hops": 200}),
        ("BASE", 0, {"//admin": 200, "/x%2f..%2fadmin": 200}),
        ("NONE", 1, {"/x/../admin": 200, "hops": 403}),
    ):
        wanted |= changed
        mesh.up.write("config.json", config(normalization, hops))
        eventually(lambda: now() == wanted)  # noqa: B023 (called at once)
