from __future__ import annotations

import pytest

from isthmus.analyze.server_trust_domain import CHECK
from tests.analyze.manifest import found

FEDERATED = """\
apiVersion: isthmus.dev/v1alpha1
kind: FederatedTrustDomain
metadata: {name: td2, namespace: istio-system}
spec:
  trustDomain: td2
  bundleEndpointURL: https://td2.example/
  bundleEndpointProfile: {type: https_web}
"""
OWN = "spiffe://cluster.local/ns/a/sa/b"


def entry(*names: str) -> str:
    return f"""\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: partner, namespace: shop}}
spec:
  hosts: [partner.example.com]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: DNS
  subjectAltNames: [{", ".join(names)}]
"""


def rule(*names: str) -> str:
    return f"""\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: partner, namespace: shop}}
spec:
  host: partner.example.com
  trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL, subjectAltNames: [{", ".join(names)}]}}}}
"""


@pytest.mark.parametrize(
    "names", [(OWN,), ("spiffe://td2/ns/a/sa/b",), ("partner.example.com",), (OWN, "partner.example.com")]
)
def test_names_of_one_trust_domain_that_is_known(names: tuple[str, ...]) -> None:
    assert found(CHECK, FEDERATED, entry(*names)) == []


def test_names_of_several() -> None:
    (only,) = found(CHECK, FEDERATED, entry(OWN, "spiffe://td2/ns/a/sa/b"))
    assert "ISM5072" in only
    assert "(cluster.local, td2)" in only


def test_names_of_a_trust_domain_that_nobody_federated_with() -> None:
    (only,) = found(CHECK, FEDERATED, entry("spiffe://td3/ns/a/sa/b"))
    assert "ISM5073" in only
    assert '"td3"' in only


def test_names_of_a_destination_rule() -> None:
    (only,) = found(CHECK, FEDERATED, entry(OWN), rule("spiffe://td3/ns/a/sa/b"))
    assert "ISM5073" in only
