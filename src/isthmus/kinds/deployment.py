"""``apps/v1`` Deployment: its pods' labels and service account tell which gateways and workloads exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from isthmus.config.decode import Reader, anything, fail, integer, map_of, noted, optional, record, required, text
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.kind import Kind
from isthmus.model.mesh import Deployed, Mesh
from isthmus.model.selector import labels_match

INJECTION = "sidecar.istio.io/inject"
_CLUSTER = "the business of Kubernetes"


@dataclass(frozen=True, slots=True)
class PodMetadata:
    at: Node
    labels: dict[str, str]
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True)
class PodTemplate:
    at: Node
    metadata: PodMetadata
    spec: Node | None


@dataclass(frozen=True, slots=True)
class LabelSelector:
    at: Node
    match_labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    at: Node
    selector: LabelSelector | None
    template: PodTemplate
    replicas: int


def _selects_its_pods(spec: DeploymentSpec, node: Node, report: Report) -> DeploymentSpec:
    labels = spec.template.metadata.labels
    if spec.selector is not None and not labels_match(spec.selector.match_labels, labels):
        raise fail(report, spec.selector.at, "the selector does not select the pods of its own template")
    return spec


SPEC: Reader[DeploymentSpec] = converted(
    record(
        DeploymentSpec,
        optional(
            "selector",
            record(LabelSelector, optional("matchLabels", map_of(text), {}), noted("matchExpressions", _CLUSTER)),
        ),
        required(
            "template",
            record(
                PodTemplate,
                required(
                    "metadata",
                    record(
                        PodMetadata,
                        required("labels", map_of(text)),
                        optional("annotations", map_of(text), {}),
                        noted("name", _CLUSTER),
                        noted("namespace", _CLUSTER),
                        noted("creationTimestamp", _CLUSTER),
                        noted("finalizers", _CLUSTER),
                    ),
                ),
                optional("spec", anything, note="only serviceAccountName counts"),
            ),
        ),
        optional("replicas", integer, 1, note="one proxy carries a gateway, whatever the number"),
        noted("strategy", _CLUSTER),
        noted("minReadySeconds", _CLUSTER),
        noted("revisionHistoryLimit", _CLUSTER),
        noted("progressDeadlineSeconds", _CLUSTER),
        noted("paused", _CLUSTER),
    ),
    _selects_its_pods,
)


def apply(resources: Sequence[Resource[DeploymentSpec]], mesh: Mesh, report: Report) -> Mesh:
    return replace(mesh, deployments=(*mesh.deployments, *map(_deployed, resources)))


def _deployed(resource: Resource[DeploymentSpec]) -> Deployed:
    pod = resource.spec.template
    return Deployed(
        name=resource.name,
        namespace=resource.namespace,
        labels=pod.metadata.labels,
        service_account=_service_account(pod.spec),
        origin=resource.origin,
        replicas=resource.spec.replicas,
        injected=any(
            INJECTION in written
            for written in (resource.labels, resource.annotations, pod.metadata.labels, pod.metadata.annotations)
        ),
    )


def _service_account(pod: Node | None) -> str:
    """``serviceAccountName``, or its old name ``serviceAccount``."""
    for name in ("serviceAccountName", "serviceAccount"):
        node = pod.get(name) if pod is not None else None
        if node is not None and isinstance(node.value, str) and node.value:
            return node.value
    return "default"


KIND = Kind(
    name="Deployment",
    api_versions=("apps/v1",),
    spec=SPEC,
    apply=apply,
    about="Pod labels and a service account: they tell which gateways and workloads exist. Nothing is started from it.",
)
