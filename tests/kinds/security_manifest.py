"""Manifests of one security kind, read and applied as ``compile`` does it."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from textwrap import dedent
from typing import Any

from isthmus.config.decode import Unreadable
from isthmus.config.load import load
from isthmus.config.node import Node
from isthmus.config.resource import Document, Resource
from isthmus.diag import Origin, Ref, Report, Source
from isthmus.kinds.shape.kind import AnyKind
from isthmus.model.gateway import Gateway
from isthmus.model.mesh import Deployed, Mesh
from isthmus.model.workload import Placement, Workload


def origin(kind: str = "Test", namespace: str = "shop", name: str = "test") -> Origin:
    return Origin(Ref(kind, namespace, name), Source("test", 1, 1))


def workload(namespace: str = "shop", name: str = "orders", **labels: str) -> Workload:
    return Workload(name, namespace, labels, name, "127.0.0.1", (), Placement.LOCAL, origin(namespace=namespace))


def gateway(namespace: str = "edge", **labels: str) -> Gateway:
    return Gateway("gateway", namespace, tuple(labels.items()), (), origin(namespace=namespace))


def deployment(namespace: str = "shop", **labels: str) -> Deployed:
    return Deployed("deployment", namespace, labels, "default", origin(namespace=namespace))


SHOP = Mesh(workloads=(workload(app="orders"), workload(name="users", app="users")), gateways=(gateway(app="gateway"),))


@dataclass(frozen=True)
class Applied:
    mesh: Mesh
    found: list[str]
    """Each diagnostic as ``line:column severity code message``."""


def documents(text: str) -> tuple[Document, ...]:
    loaded = load(["-"], namespace="shop", stdin=BytesIO(dedent(text).encode()))
    assert not list(loaded.report)
    return loaded.documents


def applied(kind: AnyKind, text: str, mesh: Mesh = SHOP) -> Applied:
    report = Report()
    resources: list[Resource[Any]] = []
    for document in documents(text):
        assert document.ref.kind == kind.name
        assert document.api_version in kind.api_versions
        node = document.root.get("spec") or Node({}, document.source, "spec", document.ref)
        try:
            spec = kind.spec.read(node, report)
        except Unreadable:
            assert report.errors, "unreadable, but why?"
            continue
        resources.append(
            Resource(document.ref, document.source, document.labels, document.annotations, spec, document.root)
        )
    mesh = kind.apply(resources, mesh, report)
    return Applied(
        mesh,
        [f"{d.source.line}:{d.source.column} {d.severity.word} {d.code.id} {d.path}: {d.message}" for d in report],
    )


def policy(kind: str, spec: str, namespace: str = "shop", name: str = "policy", version: str = "v1") -> str:
    """A document whose ``spec`` is the flow or block text given; its first line is line 4."""
    body = dedent(spec).strip("\n").replace("\n", "\n  ")
    return (
        f"apiVersion: security.istio.io/{version}\nkind: {kind}\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  {body}\n"
    )
