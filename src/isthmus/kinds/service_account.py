"""``v1`` ServiceAccount: that it exists; a workload's identity is made of its name and namespace."""

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

_CLUSTER = "the business of Kubernetes"


@dataclass(frozen=True, slots=True)
class ServiceAccountSpec:
    at: Node


def apply(resources: Sequence[Resource[ServiceAccountSpec]], mesh: Mesh, report: Report) -> Mesh:
    accounts = {(resource.namespace, resource.name) for resource in resources}
    return replace(mesh, service_accounts=mesh.service_accounts | accounts)


KIND = Kind(
    name="ServiceAccount",
    api_versions=("v1",),
    spec=record(
        ServiceAccountSpec,
        *ENVELOPE,
        noted("secrets", _CLUSTER),
        noted("imagePullSecrets", _CLUSTER),
        noted("automountServiceAccountToken", _CLUSTER),
    ),
    apply=apply,
    about="That a service account exists.",
    whole_document=True,
)
