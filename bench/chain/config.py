"""What each chain is told: the same task at the same level, in each program's own words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

ISSUER = "https://issuer.example.com"
SECRET_NAME = "edge-tls"
FOREIGN_ID = "spiffe://cluster.local/ns/edge/sa/foreign"


class Level(IntEnum):
    """How much is asked of a chain; each has all of those before it."""

    PROXY = 0
    MUTUAL_TLS = 1
    TOKEN = 2
    POLICY = 3

    @property
    def words(self) -> str:
        return (
            "proxy only",
            "+ TLS at the edge, mutual TLS inside",
            "+ a token verified at the edge",
            "+ who may call what at the sidecar, access logs, metrics",
        )[self]


@dataclass(frozen=True)
class Files:
    """Key material, as PEM files. ``client`` and ``edge`` hold certificates and key together (HAProxy's way)."""

    edge: Path
    client: Path
    root: Path
    token_key: Path


def mesh_manifests(level: Level, app_port: int) -> dict[str, str]:
    """One gateway, one sidecar before the program at ``app_port``, and every feature of ``level``."""
    server = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}"
    if level >= Level.MUTUAL_TLS:
        tls = f"{{mode: SIMPLE, credentialName: {SECRET_NAME}}}"
        server = f"{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: ['*'], tls: {tls}}}"
    texts = [
        f"""\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: edge}}
spec: {{selector: {{istio: edge}}, servers: [{server}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: app, namespace: edge}}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{{retries: {{attempts: 0}}, route: [{{destination: {{host: app.shop.svc.cluster.local}}}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: app, namespace: shop}}
spec: {{selector: {{app: app}}, ports: [{{name: http, port: 8080}}]}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: app-1, namespace: shop}}
spec: {{address: 127.0.0.1, labels: {{app: app}}, serviceAccount: app, ports: {{http: {app_port}}}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: shop, namespace: shop}}
spec: {{mtls: {{mode: {"STRICT" if level >= Level.MUTUAL_TLS else "DISABLE"}}}}}
"""
    ]
    if level >= Level.TOKEN:
        texts.append(_TOKEN)
    texts.append(_POLICY if level >= Level.POLICY else _QUIET)
    return {"mesh.yaml": "---\n".join(texts)}


_TOKEN = f"""\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: edge, namespace: edge}}
spec:
  selector: {{matchLabels: {{istio: edge}}}}
  jwtRules: [{{issuer: "{ISSUER}", forwardOriginalToken: true}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: edge, namespace: edge}}
spec:
  selector: {{matchLabels: {{istio: edge}}}}
  rules: [{{from: [{{source: {{requestPrincipals: ["*"]}}}}]}}]
"""
_POLICY = f"""\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: app, namespace: shop}}
spec:
  rules:
    - from: [{{source: {{principals: [cluster.local/ns/edge/sa/edge, "{FOREIGN_ID.removeprefix("spiffe://")}"]}}}}]
      to: [{{operation: {{methods: [GET], paths: [/app, "/app/*"]}}}}]
"""
_QUIET = """\
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: quiet, namespace: istio-system}
spec:
  accessLogging: [{disabled: true}]
  metrics: [{providers: [{name: prometheus}], overrides: [{disabled: true}]}]
"""


def nginx_app(port: int, folder: Path) -> str:
    """The program behind every chain: 1 KiB, at once."""
    return f"""\
pid {folder}/app.pid;
error_log {folder}/app.log;
worker_processes 1;
master_process off;
daemon off;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "{"x" * 1024}"; }} }}
}}
"""


def nginx_gateway(level: Level, port: int, sidecar: str, files: Files, folder: Path) -> str:
    """nginx as the gateway. It verifies no tokens in its free edition, so it goes as far as mutual TLS."""
    listen = f"{port} ssl" if level >= Level.MUTUAL_TLS else str(port)
    edge = f"ssl_certificate {files.edge}; ssl_certificate_key {files.edge};" if level >= Level.MUTUAL_TLS else ""
    scheme, upstream_tls = "http", ""
    if level >= Level.MUTUAL_TLS:
        scheme = "https"
        upstream_tls = (
            f"proxy_ssl_certificate {files.client}; proxy_ssl_certificate_key {files.client}; "
            f"proxy_ssl_trusted_certificate {files.root}; proxy_ssl_verify off; proxy_ssl_protocols TLSv1.3;"
        )
    return f"""\
pid {folder}/gateway.pid;
error_log {folder}/gateway.log;
worker_processes 1;
master_process off;
daemon off;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  upstream sidecar {{ server {sidecar}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{listen};
    {edge}
    location / {{
      proxy_pass {scheme}://sidecar;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      {upstream_tls}
    }}
  }}
}}
"""


def haproxy(level: Level, port: int, sidecar: str, files: Files) -> str:
    """HAProxy as the gateway, with its own JWT verification, which keeps no cache."""
    bind = f"bind 127.0.0.1:{port}" + (f" ssl crt {files.edge} alpn http/1.1" if level >= Level.MUTUAL_TLS else "")
    server = f"server sidecar {sidecar}"
    if level >= Level.MUTUAL_TLS:
        server += f" ssl crt {files.client} ca-file {files.root} verify required alpn http/1.1"
    token = f"""
  http-request set-var(txn.token) http_auth_bearer
  http-request set-var(txn.alg) var(txn.token),jwt_header_query('$.alg')
  http-request set-var(txn.iss) var(txn.token),jwt_payload_query('$.iss')
  http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request return status 401 unless {{ var(txn.alg) -m str RS256 }}
  http-request return status 401 unless {{ var(txn.iss) -m str {ISSUER} }}
  http-request return status 401 unless {{ var(txn.token),jwt_verify(txn.alg,"{files.token_key}") 1 }}
  http-request return status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}"""
    log = "log stdout format raw local0\n  option httplog" if level >= Level.POLICY else ""
    return f"""\
global
  nbthread 1
  tune.ssl.default-dh-param 2048
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
  http-reuse always
  {log}
frontend edge
  {bind}{token if level >= Level.TOKEN else ""}
  default_backend mesh
backend mesh
  {server}
"""


def envoy_hop(port: int, app_port: int) -> str:
    """One plain Envoy between load and program: the unit of every ratio."""
    return f"""\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: hop
          route_config:
            virtual_hosts:
            - {{name: app, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: app}}}}]}}
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: app
    type: STATIC
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {app_port}}}}}}}
"""
