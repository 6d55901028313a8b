"""PeerAuthentication on real Envoys: each mode, by port, and which of several policies decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.fields_peer import Ask, Issuer, inbound, send
from tests.real.manifests import service
from tests.real.up import Up

pytestmark = pytest.mark.real

MODE = "PeerAuthentication.spec.mtls.mode"
PORT_MODE = "PeerAuthentication.spec.portLevelMtls.*.mode"
SELECTOR = "PeerAuthentication.spec.selector.matchLabels"
WORKLOADS = {"mesh-wide": "far", "unset": "vague", "strict": "shop", "both": "shop", "plain": "shop", "ports": "shop"}


def workload(name: str, namespace: str, port: int) -> str:
    return f"""\
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  labels: {{app: {name}, all: these}}
  ports: [{{name: http, number: 8080, listen: {port}}}, {{name: http-more, number: 8081, listen: {port}}}]
---
"""


def policy(name: str, namespace: str, spec: str) -> str:
    return f"""\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
---
"""


def mtls(mode: str, app: str | None = None) -> str:
    return f"{{mtls: {{mode: {mode}}}" + (f", selector: {{matchLabels: {{app: {app}}}}}}}" if app else "}")


POLICIES = (
    policy("mesh", "istio-system", mtls("STRICT")),
    policy("vague", "vague", mtls("UNSET")),
    policy("shop", "shop", mtls("STRICT")),
    policy("shop-too", "shop", mtls("DISABLE")),
    policy("both", "shop", mtls("PERMISSIVE", "both")),
    policy("both-too", "shop", mtls("STRICT", "both")),
    policy("plain", "shop", mtls("DISABLE", "plain")),
    policy("ports", "shop", "{selector: {matchLabels: {app: ports}}, portLevelMtls: {8081: {mode: DISABLE}}}"),
)
GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: shop}
spec:
  hosts: [all.example.com]
  gateways: [edge]
  http:
    - {match: [{uri: {prefix: /strict}}], route: [{destination: {host: strict, port: {number: 8080}}}]}
    - {match: [{uri: {prefix: /both}}], route: [{destination: {host: both, port: {number: 8080}}}]}
    - {match: [{uri: {prefix: /plain}}], route: [{destination: {host: plain, port: {number: 8080}}}]}
    - {match: [{uri: {prefix: /ports-8080}}], route: [{destination: {host: ports, port: {number: 8080}}}]}
    - {match: [{uri: {prefix: /ports-8081}}], route: [{destination: {host: ports-more, port: {number: 8081}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: ports-more, namespace: shop}
spec:
  selector: {app: ports}
  ports: [{name: http-more, port: 8081}]
---
"""


@dataclass(frozen=True, slots=True)
class Mesh:
    up: Up
    web: Path

    def takes(self, name: str, port: int) -> tuple[bool, bool]:
        """Whether it takes mutual TLS, and whether it takes plaintext."""
        address = inbound(self.up, name, port)
        statuses = [send(address, Ask(certificate=certificate)).status for certificate in (self.web, None)]
        assert set(statuses) <= {200, 0}
        return statuses[0] == 200, statuses[1] == 200


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("peers")
    with Backend() as backend:
        services = "---\n".join(service(name, "shop") for name, namespace in WORKLOADS.items() if namespace == "shop")
        manifests = {
            "workloads.yaml": "".join(workload(name, where, backend.port) for name, where in WORKLOADS.items()),
            "gateway.yaml": GATEWAY + services,
            "policies.yaml": "".join(POLICIES),
        }
        with Up(folder, manifests) as up:
            yield Mesh(up, Issuer.of(up, folder).certificate("spiffe://cluster.local/ns/shop/sa/web"))


STRICT, PERMISSIVE, DISABLE = (True, False), (True, True), (False, True)


@enforces(MODE, SELECTOR)
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param("mesh-wide", STRICT, id="the root namespace's policy"),
        pytest.param("unset", STRICT, id="UNSET is the wider policy's"),
        pytest.param("strict", STRICT, id="the namespace's policy, the first of two"),
        pytest.param("both", PERMISSIVE, id="the workload's policy, the first of two"),
        pytest.param("plain", DISABLE, id="DISABLE"),
    ],
)
def test_modes(mesh: Mesh, name: str, mode: tuple[bool, bool]) -> None:
    assert mesh.takes(name, 8080) == mode
    assert mesh.takes(name, 8081) == mode


@enforces(PORT_MODE)
def test_a_port_has_a_mode_of_its_own(mesh: Mesh) -> None:
    assert mesh.takes("ports", 8080) == STRICT, "inherited"
    assert mesh.takes("ports", 8081) == DISABLE


@enforces(MODE, PORT_MODE)
@pytest.mark.parametrize(
    ("path", "mutual"),
    [("strict", True), ("both", True), ("plain", False), ("ports-8080", True), ("ports-8081", False)],
)
def test_callers_of_the_mesh_do_as_the_callee_wants(mesh: Mesh, path: str, mutual: bool) -> None:
    answer = mesh.up.get(f"http://all.example.com/{path}")
    assert answer.status_code == 200, answer.text
    seen = dict(answer.json()["headers"]).get("x-forwarded-client-cert", "")
    assert ("URI=spiffe://cluster.local/ns/shop/sa/edge" in seen) is mutual


def test_tls_without_a_certificate_of_the_mesh_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    stranger = Issuer.new(tmp_path).certificate("spiffe://cluster.local/ns/shop/sa/web")
    for name in ("strict", "both"):
        assert send(inbound(mesh.up, name, 8080), Ask(certificate=stranger)).status == 0
