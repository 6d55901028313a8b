from __future__ import annotations

from isthmus.analyze.client_name import CHECK
from tests.analyze.manifest import found
from tests.kinds.credential import secret
from tests.real.pki import Authority

ROOT = Authority("root")
LEAF = ROOT.issue("shop.example.com")
SECRET = secret("tls", "edge", tls_crt=LEAF.chain, tls_key=LEAF.key, ca_crt=ROOT.pem)
GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec:
  selector: {app: edge}
  servers:
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: [shop.example.com]
      tls: {mode: MUTUAL, credentialName: tls%s}
"""
POLICY = """\
apiVersion: isthmus.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: corp, namespace: edge}
spec:
  targetRefs: [{kind: Gateway, name: edge}]
  tls: {clientValidation: {subjectAltNames: {dnsNames: [%s]}}}
"""
SAID = (
    '"*.internal.corp" lets in a certificate that has "*.internal.corp" itself as its name, '
    "and no host of internal.corp"
)


def test_a_star_of_a_gateway() -> None:
    (one,) = found(CHECK, GATEWAY % ', subjectAltNames: ["*.internal.corp", "a.corp"]', SECRET)
    assert one == f"7 warning ISM5062: port 443: {SAID}"


def test_a_star_of_a_policy() -> None:
    plain = GATEWAY % ""
    (one,) = found(CHECK, POLICY % '{exact: "*.internal.corp"}', plain, SECRET)
    assert one == f"1 warning ISM5062: port 443: {SAID}"
    assert found(CHECK, POLICY % '{wildcard: "*.internal.corp"}', plain, SECRET) == []
