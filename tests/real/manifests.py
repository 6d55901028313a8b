"""Manifests of the tests on real Envoy."""

from __future__ import annotations

ISSUER = "https://auth.prod.example.com"

TEMPLATE = """\
apiVersion: networking.istio.io/v1beta1
kind: Gateway
metadata: {name: production-gateway, namespace: api-system}
spec:
  selector: {app: api-gateway}
  servers:
    - port: {number: 443, name: https, protocol: HTTPS}
      tls: {mode: SIMPLE, credentialName: prod-tls}
      hosts: [api.prod.example.com]
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: unified-routing, namespace: api-system}
spec:
  hosts: [api.prod.example.com]
  gateways: [production-gateway]
  http:
    - match: [{uri: {prefix: /api/v1/}}]
      route:
        - destination:
            host: backend-service.api-system.svc.cluster.local
            port: {number: 8080}
      timeout: 5s
      retries: {attempts: 2, retryOn: "5xx,reset,connect-failure"}
---
apiVersion: security.istio.io/v1beta1
kind: PeerAuthentication
metadata: {name: mesh-mtls, namespace: api-system}
spec:
  mtls: {mode: STRICT}
---
apiVersion: security.istio.io/v1beta1
kind: RequestAuthentication
metadata: {name: jwt-enforcement, namespace: api-system}
spec:
  selector: {matchLabels: {app: backend-service}}
  jwtRules:
    - issuer: https://auth.prod.example.com
      jwksUri: https://auth.prod.example.com/.well-known/jwks.json
      forwardOriginalToken: true
      outputPayloadToHeader: x-istio-jwt
---
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata: {name: api-access, namespace: api-system}
spec:
  selector: {matchLabels: {app: backend-service}}
  action: ALLOW
  rules:
    - from: [{source: {namespaces: [api-system]}}]
      when: [{key: "request.auth.claims[role]", values: [api-user, api-admin]}]
"""


def service(name: str, namespace: str, port: int = 8080, port_name: str = "http") -> str:
    """A Service that selects ``app: name``."""
    return f"""\
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: {port_name}, port: {port}}}]
"""


def workload_entry(
    name: str,
    namespace: str,
    app: str,
    port: int,
    *,
    account: str = "default",
    port_name: str = "http",
    extra: str = "",
) -> str:
    """A program of this machine that listens on ``port``."""
    return f"""\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  address: 127.0.0.1
  labels: {{app: {app}{extra}}}
  serviceAccount: {account}
  ports: {{{port_name}: {port}}}
"""
