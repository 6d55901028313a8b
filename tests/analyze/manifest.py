"""Manifests for one check, compiled as ``isthmus analyze`` compiles them."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from textwrap import dedent

from isthmus.analyze.check import Check
from isthmus.compile import Compiler
from isthmus.config.load import load
from isthmus.diag import Report
from isthmus.model.mesh import Mesh

GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec:
  selector: {app: edge}
  servers:
    - port: {number: 80, name: http, protocol: HTTP}
      hosts: [shop.example.com]
"""
ROUTES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example.com]
  gateways: [edge/edge]
  http:
    - route: [{destination: {host: orders}}]
"""
ORDERS = """\
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec:
  selector: {app: orders}
  ports: [{name: http, port: 8080}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: orders-1, namespace: shop}
spec: {address: 127.0.0.1, labels: {app: orders}, ports: {http: 8080}}
"""
DATABASE = """\
apiVersion: v1
kind: Service
metadata: {name: database, namespace: shop}
spec:
  selector: {app: database}
  ports: [{name: tcp, port: 5432}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: database-1, namespace: shop}
spec: {address: 127.0.0.1, labels: {app: database}, ports: {tcp: 5432}}
"""
STRICT = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
"""


def security(kind: str, spec: str, namespace: str = "shop") -> str:
    """A document named ``it``; its spec begins on its line 5."""
    body = dedent(spec).strip().replace("\n", "\n  ")
    head = f"apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: it, namespace: {namespace}}}\n"
    return f"{head}spec:\n  {body}\n"


def access(spec: str, namespace: str = "shop") -> str:
    return security("AuthorizationPolicy", spec, namespace)


def tokens(spec: str, namespace: str = "shop") -> str:
    return security("RequestAuthentication", spec, namespace)


def mesh_of(*texts: str) -> Mesh:
    whole = "---\n".join(texts)
    loaded = load(["-"], stdin=BytesIO(whole.encode()))
    assert not list(loaded.report)
    compiled = Compiler().compile(loaded.documents)
    assert not compiled.errors, "the manifests are to be legal"
    return compiled.mesh


def found(check: Check, *texts: str, now: datetime | None = None) -> list[str]:
    """What ``check`` says of ``texts``, whose first line is line 1: ``line severity code: message``."""
    report = Report()
    check.look(mesh_of(*texts), report, now or datetime.now(UTC))
    assert {one.code for one in report} <= set(check.codes)
    return [f"{one.source.line} {one.severity.word} {one.code.id}: {one.message}" for one in report]
