from __future__ import annotations

from isthmus.control.server_credentials import server_credentials
from isthmus.proxy.plan import PlannedCredential
from tests.kinds.credential import secret
from tests.kinds.traffic_manifest import compiled
from tests.real.pki import Authority

ROOT = Authority("root")
LEAF = ROOT.issue("shop.example.com")


def gateway(tls: str) -> str:
    return f"""\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  selector: {{app: edge}}
  servers:
  - port: {{number: 443, name: https, protocol: HTTPS}}
    hosts: [shop.example.com]
    tls: {tls}
"""


def needed(*texts: str) -> list[PlannedCredential]:
    mesh = compiled(*texts).mesh
    return [one for one in server_credentials(mesh, mesh.proxies[0]) if one.name.startswith(("credential", "file"))]


def test_files_are_the_agents_to_watch() -> None:
    files = "serverCertificate: /c/tls.crt, privateKey: /c/tls.key, caCertificates: /c/ca.crt, caCrl: /c/ca.crl"
    assert needed(gateway(f"{{mode: MUTUAL, {files}}}")) == [
        PlannedCredential("file-cert:/c/tls.crt~/c/tls.key", "files"),
        PlannedCredential("file-root:/c/ca.crt~/c/ca.crl", "files"),
    ]


def test_a_server_with_the_meshs_own_needs_no_other() -> None:
    assert needed(gateway("{mode: ISTIO_MUTUAL}")) == []


def test_a_new_list_is_a_new_version() -> None:
    policy = """\
apiVersion: isthmus.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: lists, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, name: edge}]
  tls: {clientValidation: {crl: {refs: [{name: lists}]}}}
"""
    cert = secret("cert", tls_crt=LEAF.chain, tls_key=LEAF.key, ca_crt=ROOT.pem)
    written = (gateway("{mode: OPTIONAL_MUTUAL, credentialName: cert}"), policy, cert)
    before, after = (
        {one.name: one.version for one in needed(*written, secret("lists", kind="Opaque", ca_crl=crl))}
        for crl in (ROOT.revoke(), ROOT.revoke(LEAF))
    )
    assert before.keys() == after.keys() == {"credential:shop/cert", "credential-ca:shop/cert~lists"}
    assert before["credential:shop/cert"] == after["credential:shop/cert"]
    assert before["credential-ca:shop/cert~lists"] != after["credential-ca:shop/cert~lists"]
    assert {one.name for one in needed(*written)} == set(), "without the list the server is not opened"
