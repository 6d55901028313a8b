"""A gateway with a login, without a network."""

from __future__ import annotations

GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: SIMPLE, credentialName: x}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example.com]
  gateways: [edge]
  http:
  - {name: web, match: [{uri: {prefix: /web}}], directResponse: {status: 200}}
  - {name: open, directResponse: {status: 200}}
"""
CLIENT = "the client's own"
ISSUER = "https://login.example.com"


def secret(value: str = CLIENT) -> str:
    return f"""\
apiVersion: v1
kind: Secret
metadata: {{name: shop-oidc, namespace: shop}}
stringData: {{client-secret: "{value}"}}
"""


def login(said: str = "", name: str = "web", issuer: str = ISSUER) -> str:
    given = f"issuer: '{issuer}', clientId: shop, clientSecretRef: {{name: shop-oidc}}{said}"
    return f"""\
apiVersion: isthmus.dev/v1alpha1
kind: ClientAuthentication
metadata: {{name: {name}, namespace: shop}}
spec:
  targetRefs: [{{kind: VirtualService, name: shop, sectionName: {name}}}]
  methods: [{{oidc: {{{given}}}}}]
"""
