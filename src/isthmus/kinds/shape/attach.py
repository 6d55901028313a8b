"""``selector`` and ``targetRefs``: what a policy of ours is attached to (``model/attachment.py``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from isthmus.config.decode import Reader, checked, enum_of, list_of, optional, record, required, text
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Place, Report, Severity
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.host import hint
from isthmus.kinds.shape.selector import Attachable, Selector, scope, selector, warn_unattached
from isthmus.model.attachment import Attachment, Target, TargetKind
from isthmus.model.mesh import Mesh
from isthmus.model.route import MESH, RouteTable

BOTH_ATTACHMENTS = Code(
    "ISM2290",
    Severity.ERROR,
    "A policy with both selector and targetRefs",
    "selector and targetRefs cannot both be there: which of them is meant?",
    what="A policy says by labels and by names what it is about.",
    why="They are of different specificity; only one can be meant.",
    example="selector: {matchLabels: {app: orders}}\ntargetRefs: [{kind: Gateway, name: edge}]",
    fix="Keep one of them; for both, write two policies.",
)
NOT_AT_SIDECARS = Code(
    "ISM2291",
    Severity.WARNING,
    "A policy for routes that no gateway offers",
    "it has no effect on the calls between workloads: {target} is a VirtualService of the gateway mesh{also}",
    what="A policy names a VirtualService whose routes the sidecars of callers take.",
    why="The calling side could step around it: what protects a workload must stand before that workload.",
    example="targetRefs: [{kind: VirtualService, name: orders}]   # gateways: [mesh]",
    fix="Give the policy a selector with the labels of the workload that is called.",
)

NO_TARGET = Code(
    "ISM2292",
    Severity.ERROR,
    "A policy for what is not there",
    'no {kind} named "{name}"{hint}: the policy would hold nowhere',
    what="A policy names a Gateway, a VirtualService, or a section of one, that none of the manifests declares.",
    why="What it was to protect would be open. So nothing is started with it, and while Isthmus runs, a change that "
    "takes a route from under a policy waits, with the route, until both fit.",
    example="targetRefs: [{kind: VirtualService, name: shop, sectionName: raed}]   # the http route is called read",
    fix="Correct the name, or take the policy away. Names are those of the policy's namespace.",
)
TARGET_KINDS = frozenset({"Gateway", "VirtualService"})

_GROUP = "networking.istio.io"


class _Kind(Enum):
    """As manifests write them."""

    Gateway = "Gateway"
    VirtualService = "VirtualService"


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """A Gateway or VirtualService of the policy's namespace, or one section of it."""

    at: Node
    group: str
    kind: TargetKind
    name: str
    section_name: str | None


class AttachSpec(Protocol):
    """A spec whose record begins with :data:`ATTACH_FIELDS`."""

    @property
    def selector(self) -> Selector | None: ...
    @property
    def target_refs(self) -> tuple[TargetSpec, ...]: ...


def _group_problem(written: str) -> str | None:
    return None if written == _GROUP else f'"{written}" is not {_GROUP}, the group of Gateway and VirtualService'


_KIND: Reader[TargetKind] = converted(enum_of(_Kind), lambda kind, node, report: TargetKind(kind.value))
_TARGET = record(
    TargetSpec,
    optional("group", checked(text, _group_problem), _GROUP),
    required("kind", _KIND),
    required("name", text, note="a Gateway or VirtualService of the policy's namespace"),
    optional("sectionName", text, note="the name of one server's port of the Gateway, or of one http route"),
)
_TARGETS: Reader[tuple[TargetSpec, ...]] = list_of(_TARGET, least=1)

ATTACH_FIELDS = (
    optional("selector", selector, note="the workloads and gateways whose every request it is about"),
    optional("targetRefs", _TARGETS, (), note="the routes of gateways that it is about"),
)
"""The first two fields of a policy's record; its spec begins with ``at: Node``, ``selector``, ``target_refs``."""


def attachment(resource: Resource[Any], spec: AttachSpec, mesh: Mesh, report: Report) -> Attachment:
    """What the policy is attached to; targets that are not there, and what is in no scope, are reported.

    A policy none of whose targets is there is attached to nothing.
    """
    if not spec.target_refs:
        wanted = scope(resource.namespace, spec.selector, mesh.settings.root_namespace)
        warn_unattached(resource, wanted, spec.selector, Attachable.of(mesh), report)
        return Attachment(wanted)
    if spec.selector is not None:
        report.add(BOTH_ATTACHMENTS, Place(resource.source, resource.ref))
    found = [
        _target(resource.namespace, target) for target in spec.target_refs if _is_there(resource, target, mesh, report)
    ]
    return Attachment(None, tuple(found))


def _target(namespace: str, target: TargetSpec) -> Target:
    return Target(target.kind, namespace, target.name, target.section_name)


def _is_there(resource: Resource[Any], target: TargetSpec, mesh: Mesh, report: Report) -> bool:
    """Whether the target is; IST0101 at what is not."""
    if target.kind is TargetKind.GATEWAY:
        return _gateway_is_there(resource, target, mesh, report)
    own = {table.name: table for table in mesh.routes if table.namespace == resource.namespace}
    table = own.get(target.name)
    if table is None:
        return _missing(target.at.at("name"), "VirtualService", target.name, own, report)
    if MESH in table.gateways:
        also = "; it holds at its gateways" if any(gateway != MESH for gateway in table.gateways) else ""
        report.add(NOT_AT_SIDECARS, target.at, target=table.origin.ref, also=also)
    names = [route.name for route in table.routes]
    if target.section_name is not None and target.section_name not in names:
        what = f"http route of VirtualService/{table.namespace}/{table.name}"
        return _missing(target.at.at("sectionName"), what, target.section_name, tuple(_spoken(table)), report)
    return True


def _gateway_is_there(resource: Resource[Any], target: TargetSpec, mesh: Mesh, report: Report) -> bool:
    own = {gateway.name: gateway for gateway in mesh.gateways if gateway.namespace == resource.namespace}
    gateway = own.get(target.name)
    if gateway is None:
        return _missing(target.at.at("name"), "Gateway", target.name, own, report)
    names = [*(server.port_name for server in gateway.servers), *(server.port_name for server in gateway.closed)]
    if target.section_name is not None and target.section_name not in names:
        what = f"server's port of Gateway/{gateway.key}"
        return _missing(target.at.at("sectionName"), what, target.section_name, names, report)
    return True


def _spoken(table: RouteTable) -> Iterator[str]:
    """The names that the user gave; others begin with the namespace."""
    return (route.name for route in table.routes if "/" not in route.name)


def _missing(at: Node, kind: str, name: str, candidates: Sequence[str] | dict[str, Any], report: Report) -> bool:
    report.add(NO_TARGET, at, kind=kind, name=name, hint=hint(name, candidates))
    return False
