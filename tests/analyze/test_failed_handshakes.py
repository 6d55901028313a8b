from __future__ import annotations

from isthmus.analyze.failed_handshakes import CHECK, NO_HANDSHAKES, TWO_BACK_OFFS
from tests.analyze.manifest import found

GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec:
  selector: {app: edge}
  servers:
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
    - port: {number: 443, name: mesh, protocol: HTTPS}
      hosts: [a.example.com]
      tls: {mode: ISTIO_MUTUAL}
    - port: {number: 443, name: other, protocol: HTTPS}
      hosts: [b.example.com]
      tls: {mode: ISTIO_MUTUAL}
"""


def policy(section: str, settings: str = "{}") -> str:
    name = f", sectionName: {section}" if section else ""
    return (
        "apiVersion: isthmus.dev/v1alpha1\nkind: ClientTrafficPolicy\n"
        f"metadata: {{name: p-{section or 'all'}, namespace: edge}}\n"
        f"spec:\n  targetRefs: [{{kind: Gateway, name: edge{name}}}]\n"
        f"  connection: {{failedHandshakes: {settings}}}\n"
    )


def test_where_no_tls_ends() -> None:
    (told,) = found(CHECK, GATEWAY, policy("http"))
    assert NO_HANDSHAKES.id in told
    assert found(CHECK, GATEWAY, policy("")) == []
    assert found(CHECK, GATEWAY, policy("mesh")) == []


def test_two_on_one_port() -> None:
    (told,) = found(CHECK, GATEWAY, policy("mesh"), policy("other", "{threshold: 7}"))
    assert TWO_BACK_OFFS.id in told
    assert "ClientTrafficPolicy/edge/p-mesh" in told
    assert found(CHECK, GATEWAY, policy("mesh"), policy("other")) == []
