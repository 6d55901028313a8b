"""``v1`` Namespace: that it exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from isthmus.config.decode import noted, record
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Report
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.support import ENVELOPE
from isthmus.model.mesh import Mesh


@dataclass(frozen=True, slots=True)
class NamespaceSpec:
    at: Node


def apply(resources: Sequence[Resource[NamespaceSpec]], mesh: Mesh, report: Report) -> Mesh:
    return replace(mesh, namespaces=mesh.namespaces | {resource.name for resource in resources})


KIND = Kind(
    name="Namespace",
    api_versions=("v1",),
    spec=record(NamespaceSpec, *ENVELOPE, noted("spec", "the business of Kubernetes")),
    apply=apply,
    about="That a namespace exists.",
    whole_document=True,
)
