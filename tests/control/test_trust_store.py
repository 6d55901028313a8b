from __future__ import annotations

import json

from isthmus.control.trust_store import trust_stores
from isthmus.identity.authority import create_root
from isthmus.identity.material import pem_of
from isthmus.proxy.plan import TrustBundle
from tests.identity.making import NOW

from .making import ORDERS, plane_of

RULES = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partners, namespace: shop}
spec:
  hosts: [partners.example.com, files.example.com]
  ports: [{number: 443, name: https, protocol: HTTP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: partners, namespace: shop}
spec:
  host: partners.example.com
  trafficPolicy: {tls: {mode: SIMPLE, credentialName: partners}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: files, namespace: shop}
spec:
  host: files.example.com
  trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /etc/corp/ca.pem}}
"""


def secret(name: str, trust_domain: str) -> str:
    root, _ = create_root(trust_domain, NOW)
    metadata = {"name": name, "namespace": "shop"}
    data = {"ca.crt": pem_of(root).decode()}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}) + "\n"


def test_every_store_with_who_uses_it() -> None:
    plane = plane_of(ORDERS, RULES, secret("partners", "partners.example"), secret("forgotten", "nobody.example"))
    root, _ = create_root("other.example", NOW)
    plane.inputs.federated = (TrustBundle("other.example", (pem_of(root).decode(),)),)
    found = {store["name"]: store for store in trust_stores(plane)}
    assert found["Secret shop/forgotten"]["used_by"] == []
    assert found["Secret shop/partners"]["used_by"] == ["sidecar~shop~orders-1"]
    assert found["Secret shop/partners"]["certificates"][0]["names"] == ["URI:spiffe://partners.example"]
    assert found["trust domain other.example"]["certificates"][0]["names"] == ["URI:spiffe://other.example"]
    assert found["file /etc/corp/ca.pem"]["path"] == "/etc/corp/ca.pem"
    assert found["file /etc/corp/ca.pem"]["certificates"] == []
