"""What a policy of ours is attached to: workloads by their labels, or Gateways and VirtualServices by name.

Of the policies of one kind the most specific holds, whole: that of an http route, of its VirtualService, of the
Gateway's server, of the Gateway, of labels, of a namespace, of the mesh. Policies that are equally specific are united,
in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Protocol, TypeVar

from isthmus.diag import Origin
from isthmus.model.selector import Scope


class TargetKind(Enum):
    GATEWAY = "Gateway"
    VIRTUAL_SERVICE = "VirtualService"


@dataclass(frozen=True, slots=True)
class Target:
    """``section``: the name of one http route of a VirtualService, or of one server's port of a Gateway."""

    kind: TargetKind
    namespace: str
    name: str
    section: str | None = None

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Specificity(IntEnum):
    """How close a policy is to a request; the highest holds."""

    MESH = 0
    NAMESPACE = 1
    LABELS = 2
    GATEWAY = 3
    SERVER = 4
    VIRTUAL_SERVICE = 5
    ROUTE = 6


@dataclass(frozen=True, slots=True)
class RoutePlace:
    """One http route as a gateway offers it. ``gateway`` and ``table``: ``namespace/name``.

    ``server``: its port's name; ``table`` None: what has no VirtualService (a redirect, a refusal).
    """

    gateway: str
    server: str
    table: str | None = None
    route: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """``scope``: the proxies whose every request it is about; None where ``targets`` names what it is about."""

    scope: Scope | None = None
    targets: tuple[Target, ...] = ()

    def at_proxy(self, namespaces: Iterable[str], labels: Mapping[str, str]) -> Specificity | None:
        """How specific it is about all that a proxy does; None: it says nothing of that."""
        if self.scope is None or not any(self.scope.selects(namespace, labels) for namespace in namespaces):
            return None
        if self.scope.labels:
            return Specificity.LABELS
        return Specificity.MESH if self.scope.namespace is None else Specificity.NAMESPACE

    def at_route(self, place: RoutePlace) -> Specificity | None:
        """How specific it is about one http route of a gateway, by its targets; None: they do not name it."""
        return max((found for target in self.targets if (found := _at(target, place)) is not None), default=None)


def _at(target: Target, place: RoutePlace) -> Specificity | None:
    match target.kind:
        case TargetKind.GATEWAY if target.key == place.gateway and target.section in (None, place.server):
            return Specificity.GATEWAY if target.section is None else Specificity.SERVER
        case TargetKind.VIRTUAL_SERVICE if target.key == place.table and target.section in (None, place.route):
            return Specificity.VIRTUAL_SERVICE if target.section is None else Specificity.ROUTE
    return None


class Attached(Protocol):
    """Any policy that is attached so."""

    @property
    def name(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def origin(self) -> Origin: ...
    @property
    def attachment(self) -> Attachment: ...


A = TypeVar("A", bound=Attached)


def distinct(policies: Iterable[A]) -> tuple[A, ...]:
    """Each once, in order: the very objects, which are dear to compare."""
    return tuple({id(policy): policy for policy in policies}.values())


def most_specific(
    policies: Iterable[A], namespaces: Iterable[str], labels: Mapping[str, str], place: RoutePlace | None = None
) -> tuple[A, ...]:
    """The policies that hold for a proxy of ``namespaces`` and ``labels``; at ``place``, an http route of it."""
    namespaces = tuple(namespaces)
    levels: dict[Specificity, list[A]] = {}
    for policy in policies:
        level = policy.attachment.at_route(place) if place is not None else None
        if level is None:
            level = policy.attachment.at_proxy(namespaces, labels)
        if level is not None:
            levels.setdefault(level, []).append(policy)
    return tuple(levels[max(levels)]) if levels else ()
