"""PeerAuthentication: whether a workload takes mutual TLS, plaintext, or both.

Source: istio.io/api security/v1beta1/peer_authentication.proto.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from isthmus.config.decode import (
    INVALID_VALUE,
    Reader,
    Unreadable,
    enum_of,
    fail,
    map_of,
    optional,
    record,
)
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Place, Report, Severity
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.selector import Attachable, Selector, scope, selector, warn_unattached
from isthmus.model.mesh import Mesh
from isthmus.model.policy import MutualTls, PeerAuthentication
from isthmus.model.selector import Scope

ROOT_SELECTOR = Code(
    "ISM2211",
    Severity.ERROR,
    "Mesh-wide PeerAuthentication with a selector",
    'a PeerAuthentication of the root namespace "{namespace}" with a selector has no effect',
    what="A PeerAuthentication in the root namespace names workloads; Istio ignores such a policy.",
    why="The workloads that it names would have another mode than the policy says: here too it holds nowhere.",
    example="kind: PeerAuthentication\nmetadata: {name: orders, namespace: istio-system}\n"
    "spec:\n  selector: {matchLabels: {app: orders}}\n  mtls: {mode: STRICT}",
    fix="Move it to the namespace of the workloads, or take the selector out.",
)
IGNORED = Code(
    "ISM2212",
    Severity.WARNING,
    "PeerAuthentication that loses to an older one",
    "{where}{winner} was loaded before this one and decides alone",
    what="Two PeerAuthentications speak of the same workloads; the one that is loaded first wins, they are not merged.",
    why="What the later one says has no effect, not even its ports.",
    example="(two PeerAuthentications without a selector in one namespace)",
    fix="Make one of the two.",
)


class _Mode(Enum):
    UNSET = None
    DISABLE = MutualTls.DISABLE
    PERMISSIVE = MutualTls.PERMISSIVE
    STRICT = MutualTls.STRICT


@dataclass(frozen=True, slots=True)
class Mutual:
    """``mode`` UNSET: that of the wider policy."""

    at: Node
    mode: _Mode


@dataclass(frozen=True, slots=True)
class Spec:
    at: Node
    selector: Selector | None
    mtls: Mutual | None
    port_level_mtls: Mapping[int, Mutual] | None


_PORT = re.compile(r"[1-9][0-9]{0,4}")
_mutual = record(Mutual, optional("mode", enum_of(_Mode), _Mode.UNSET))


def _by_port(modes: dict[str, Mutual], node: Node, report: Report) -> Mapping[int, Mutual]:
    if not modes:
        raise fail(report, node, "at least one port is needed")
    strange = [key for key in modes if not _PORT.fullmatch(key) or int(key) > 65535]
    for key in strange:
        report.add(INVALID_VALUE, node.key(key), reason=f'"{key}" is not a port (1 to 65535)')
    if strange:
        raise Unreadable
    return {int(key): mode for key, mode in modes.items()}


def _ports_need_labels(spec: Spec, node: Node, report: Report) -> Spec:
    if spec.port_level_mtls is not None and (spec.selector is None or not spec.selector.match_labels):
        report.add(INVALID_VALUE, node.key("portLevelMtls"), reason="portLevelMtls needs a selector with labels")
        raise Unreadable
    return spec


_ports: Reader[Mapping[int, Mutual]] = converted(map_of(_mutual), _by_port)
spec: Reader[Spec] = converted(
    record(
        Spec,
        optional("selector", selector, note="not in the root namespace"),
        optional("mtls", _mutual),
        optional("portLevelMtls", _ports, note="by the workload's port; needs a selector"),
    ),
    _ports_need_labels,
)


def apply(resources: Sequence[Resource[Spec]], mesh: Mesh, report: Report) -> Mesh:
    """Add the policies to the Mesh, in order of loading; which of them decides is :mod:`isthmus.model.peer_mode`."""
    root = mesh.settings.root_namespace
    attachable = Attachable.of(mesh)
    taken = _Taken()
    policies: list[PeerAuthentication] = []
    for resource in resources:
        policy = _policy(resource, root)
        if resource.namespace == root and policy.scope.labels:
            report.add(ROOT_SELECTOR, resource.spec.at.at("selector"), namespace=root)
            continue
        warn_unattached(resource, policy.scope, resource.spec.selector, attachable, report)
        taken.take(policy, attachable, report)
        policies.append(policy)
    return replace(mesh, policies=replace(mesh.policies, peer=tuple(policies)))


def _policy(resource: Resource[Spec], root_namespace: str) -> PeerAuthentication:
    written = resource.spec
    return PeerAuthentication(
        resource.name,
        resource.namespace,
        scope(resource.namespace, written.selector, root_namespace),
        written.mtls.mode.value if written.mtls is not None else None,
        {port: mutual.mode.value for port, mutual in (written.port_level_mtls or {}).items()},
        resource.origin,
    )


@dataclass(slots=True)
class _Taken:
    """The first policy of each scope, and of each label set of a workload among those with a selector."""

    scopes: dict[Scope, PeerAuthentication] = field(default_factory=dict)
    workloads: dict[tuple[str, frozenset[tuple[str, str]]], PeerAuthentication] = field(default_factory=dict)

    def take(self, policy: PeerAuthentication, attachable: Attachable, report: Report) -> None:
        """Note ``policy``; warn where an older one has its place."""
        place = Place(policy.origin.source, policy.origin.ref)
        older = self.scopes.setdefault(policy.scope, policy)
        if older is not policy:
            report.add(IGNORED, place, where="", winner=older.origin.ref)
            return
        if policy.scope.whole_namespace:
            return
        for target in attachable.within(policy.scope):
            older = self.workloads.setdefault(target, policy)
            if older is not policy:
                shown = ", ".join(f"{key}={value}" for key, value in sorted(target[1]))
                where = f"for the workload with the labels {shown}: "
                report.add(IGNORED, place, where=where, winner=older.origin.ref)


KIND: Kind[Spec] = Kind(
    name="PeerAuthentication",
    api_versions=("security.istio.io/v1", "security.istio.io/v1beta1"),
    spec=spec,
    apply=apply,
    about="Whether workloads take mutual TLS only (STRICT), plaintext only (DISABLE) or both (PERMISSIVE).",
    security=True,
)
