"""Manifests of traffic, compiled as ``isthmus analyze`` compiles them."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from textwrap import dedent

from isthmus.compile import Compiler
from isthmus.config.load import load
from isthmus.diag import Diagnostic
from isthmus.model.mesh import Mesh

ORDERS = """\
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec:
  selector: {app: orders}
  ports: [{name: http, port: 80, targetPort: 8080}]
"""
USERS = """\
apiVersion: v1
kind: Service
metadata: {name: users, namespace: shop}
spec:
  selector: {app: users}
  ports: [{name: http, port: 80}, {name: grpc, port: 9090}]
"""
EDGE = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["*.example.com"]
"""


@dataclass(frozen=True)
class Compiled:
    mesh: Mesh
    diagnostics: tuple[Diagnostic, ...]

    @property
    def found(self) -> list[str]:
        """``line:column severity code``: where, how bad and what."""
        return [f"{d.source.line}:{d.source.column} {d.severity.word} {d.code.id}" for d in self.diagnostics]

    @property
    def messages(self) -> str:
        return "\n".join(f"{d.path}: {d.message}" for d in self.diagnostics)


def compiled(*texts: str) -> Compiled:
    """``texts``, one or more documents each; lines count from 1 in the first of them."""
    whole = "\n---\n".join(dedent(text).strip("\n") for text in texts) + "\n"
    loaded = load(["-"], namespace="shop", stdin=BytesIO(whole.encode()))
    done = Compiler().compile(loaded.documents)
    return Compiled(done.mesh, (*loaded.report, *done.diagnostics))


def networking(kind: str, spec: str, name: str = "web", namespace: str = "shop", version: str = "v1") -> str:
    """A document of networking.istio.io whose ``spec`` begins at line 5."""
    body = dedent(spec).strip("\n").replace("\n", "\n  ")
    return (
        f"apiVersion: networking.istio.io/{version}\nkind: {kind}\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  {body}\n"
    )


def core(kind: str, body: str, name: str = "web", namespace: str = "shop", version: str = "v1") -> str:
    """A document of Kubernetes' own whose ``body`` begins at line 4."""
    return (
        f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        + dedent(body).strip("\n")
        + "\n"
    )
