"""Proxies whose SVIDs another authority gives over its own Workload API, as a SPIRE agent does.

SPIRE itself is in no package registry: another mesh's agent stands in for it, with an authority of its own for the same
trust domain.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from tests.real.backend import Backend, header
from tests.real.fields_peer import Ask, Issuer, send
from tests.real.fields_wire import secrets_of
from tests.real.manifests import service, workload_entry
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

PREFIX = "spiffe://cluster.local/ns/shop/sa/"
EDGE, APP = "gateway~shop~edge", "sidecar~shop~app-1"
MANIFESTS = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{route: [{destination: {host: app}}]}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: shop, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
"""


def registered(account: str) -> str:
    """For the agent and the control plane of the mesh that takes them."""
    return f"""\
apiVersion: isthmus.dev/v1alpha1
kind: WorkloadRegistration
metadata: {{name: {account}, namespace: shop}}
spec:
  serviceAccount: {account}
  selectors: {{uid: {os.geteuid()}, path: {Path(sys.executable).resolve()}}}
  ttl: 30s
---
"""


@dataclass(frozen=True, slots=True)
class Meshes:
    giving: Up
    taking: Up
    app: Backend

    def leaf(self, proxy_id: str) -> x509.Certificate:
        chain = secrets_of(self.taking, proxy_id, "default")["default"].tls_certificate.certificate_chain
        return x509.load_pem_x509_certificate(chain.inline_bytes)


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshes]:
    folder = tmp_path_factory.mktemp("spire")
    with ExitStack() as running:
        app = running.enter_context(Backend("app"))
        giving = running.enter_context(Up(folder / "giving", {"all.yaml": registered("edge") + registered("app")}))
        socket = (giving.state / "workload.sock").readlink()
        entry = workload_entry("app-1", "shop", "app", app.port, account="app")
        manifests = MANIFESTS + "---\n".join((service("app", "shop"), entry))
        options = ("--spire-socket", f"unix://{socket}")
        yield Meshes(giving, running.enter_context(Up(folder / "taking", {"all.yaml": manifests}, *options)), app)


def signed_by(leaf: x509.Certificate, up: Up) -> bool:
    """By the intermediate of a mesh."""
    issuers = x509.load_pem_x509_certificates((up.state / "ca" / "intermediate.pem").read_bytes())
    return leaf.issuer == issuers[0].subject


def test_the_mesh_runs_by_them(meshes: Meshes) -> None:
    answer = eventually(lambda: (got := meshes.taking.get("http://shop.example.com/")).status_code == 200 and got, 60)
    assert f"URI={PREFIX}edge" in (header(answer.json(), "x-forwarded-client-cert") or "")
    for proxy in (EDGE, APP):
        leaf = meshes.leaf(proxy)
        assert signed_by(leaf, meshes.giving)
        assert not signed_by(leaf, meshes.taking)


def test_a_renewed_one_is_served(meshes: Meshes) -> None:
    before = meshes.leaf(APP).serial_number
    # It lives half a minute, and is renewed at half of that.
    assert eventually(lambda: meshes.leaf(APP).serial_number != before, 60)
    assert meshes.taking.get("http://shop.example.com/").status_code == 200


def test_who_else_is_let_in(meshes: Meshes, tmp_path: Path) -> None:
    (address,) = meshes.taking.workload("app-1")["inbound"].values()

    def status(issuer: Issuer) -> int:
        return send(address, Ask(certificate=issuer.certificate(PREFIX + "edge"))).status

    assert status(Issuer.of(meshes.giving, tmp_path)) == 200
    assert status(Issuer.new(tmp_path)) == 0, "an authority that nobody named"


def test_what_is_not_registered_there_is_nobody(meshes: Meshes) -> None:
    entry = workload_entry("lost-1", "shop", "lost", meshes.app.port, account="lost")
    meshes.taking.write("lost.yaml", entry)
    said = f"gives none of {PREFIX}lost: register it there"
    assert eventually(lambda: said in meshes.taking.output, 60)
    meshes.taking.remove("lost.yaml")
