"""Where policies that are attached hold (``model/attachment.py``): workloads, and the routes of gateways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from isthmus.analyze.target import Target, targets
from isthmus.model.attachment import Attached, Attachment, RoutePlace, TargetKind, distinct, most_specific
from isthmus.model.gateway import Gateway, Server, narrower_host
from isthmus.model.l4_route import L4Table
from isthmus.model.mesh import Mesh
from isthmus.model.route import RouteTable

T = TypeVar("T", RouteTable, L4Table)


@dataclass(frozen=True, slots=True)
class Place:
    """A workload; or (``route``) what a gateway does at one of its servers by one VirtualService."""

    target: Target
    route: RoutePlace | None = None

    @property
    def name(self) -> str:
        if self.route is None or self.route.table is None:
            return self.target.key
        return f"{self.target.key} for {self.route.table}"


@dataclass(frozen=True, slots=True)
class _Held:
    """``identities``: of the policies as objects, for of ten thousand each asks whether it is among them."""

    policies: tuple[Any, ...]
    identities: frozenset[int]


class Places:
    """Those of one mesh. ``targets``: what there is that policies may hold at."""

    def __init__(self, mesh: Mesh) -> None:
        self.targets = targets(mesh)
        self._mesh = mesh
        self._tables = {table_key(table): table for table in mesh.routes}
        self._held: dict[tuple[str, str, bool], _Held] = {}
        """What holds wherever no route is named: of many policies, each target asks once."""
        self._held_by_name: dict[tuple[str, RoutePlace], _Held] = {}

    def concerned(self, attachment: Attachment) -> tuple[Target, ...]:
        """What the policy is about, be it one route of it."""
        return tuple(target for target in self.targets if self.concerns(attachment, target))

    def concerns(self, attachment: Attachment, target: Target) -> bool:
        if attachment.scope is not None:
            return target.within(attachment.scope)
        carried = {gateway.key for gateway in target.gateways}
        return any(
            named.key in carried
            if named.kind is TargetKind.GATEWAY
            else named.key in self._tables and not carried.isdisjoint(self._tables[named.key].gateways)
            for named in attachment.targets
        )

    def of(self, kind: str, policy: Attached) -> Iterator[Place]:
        """Where a policy of a kind (of ATTACHED) holds requests."""
        for target in self.concerned(policy.attachment):
            for place in self._in_question(policy.attachment, target):
                if self._holds(kind, policy, place):
                    yield place

    def of_connections(self, kind: str, policy: Attached) -> Iterator[Place]:
        """Where a policy of a kind holds at servers of gateways that take connections."""
        for target in self.targets:
            for gateway, table, server in _bound(target, self._mesh.l4_routes):
                place = Place(target, RoutePlace(gateway.key, server.port_name, table_key(table)))
                if not server.is_http and self._holds(kind, policy, place):
                    yield place

    def holding(self, kind: str, place: Place) -> tuple[Any, ...]:
        """The policies of a kind that hold at a place: the most specific."""
        return self._holding(kind, place).policies

    def _holds(self, kind: str, policy: Attached, place: Place) -> bool:
        return id(policy) in self._holding(kind, place).identities

    def _holding(self, kind: str, place: Place) -> _Held:
        named = self._named(kind, place.route) if place.route is not None else None
        if named is not None and named.policies:
            return named
        target = place.target
        key = (kind, target.key, target.gateway)
        if key not in self._held:
            candidates = self._mesh.attached_in(kind, target.namespaces)
            self._held[key] = _held(most_specific(candidates, target.namespaces, target.labels))
        return self._held[key]

    def _named(self, kind: str, place: RoutePlace) -> _Held:
        """What holds by naming the route, or what it is part of; nothing if no policy does."""
        if (kind, place) not in self._held_by_name:
            candidates = [*self._mesh.targeting(kind, TargetKind.GATEWAY, place.gateway)]
            if place.table is not None:
                candidates += self._mesh.targeting(kind, TargetKind.VIRTUAL_SERVICE, place.table)
            named = tuple(one for one in distinct(candidates) if one.attachment.at_route(place) is not None)
            self._held_by_name[kind, place] = _held(most_specific(named, (), {}, place) if named else ())
        return self._held_by_name[kind, place]

    def _in_question(self, attachment: Attachment, target: Target) -> Iterator[Place]:
        if not target.gateway:
            yield Place(target)
            return
        for gateway, table, server in _bound(target, self._of_interest(attachment)):
            if server.is_http and not server.https_redirect:
                for route in table.routes:
                    place = RoutePlace(gateway.key, server.port_name, table_key(table), route.name)
                    if attachment.scope is not None or attachment.at_route(place) is not None:
                        yield Place(target, place)

    def _of_interest(self, attachment: Attachment) -> Iterable[RouteTable]:
        """Of thousands of VirtualServices a policy names few."""
        if attachment.scope is not None or any(one.kind is TargetKind.GATEWAY for one in attachment.targets):
            return self._mesh.routes
        keys = dict.fromkeys(one.key for one in attachment.targets)
        return tuple(self._tables[key] for key in keys if key in self._tables)


def _held(policies: tuple[Any, ...]) -> _Held:
    return _Held(policies, frozenset(map(id, policies)))


def table_key(table: RouteTable | L4Table) -> str:
    return f"{table.namespace}/{table.name}"


def meet(server: Server, table: RouteTable | L4Table) -> bool:
    """Whether a VirtualService has a host that a server lets it have."""
    return any(
        narrower_host(served.name, wanted) is not None
        for served in server.hosts
        if served.namespace in (None, table.namespace)
        for wanted in table.hosts
    )


def _bound(target: Target, tables: Iterable[T]) -> Iterator[tuple[Gateway, T, Server]]:
    for table in tables:
        for gateway in target.gateways:
            if gateway.key in table.gateways:
                yield from ((gateway, table, server) for server in gateway.servers if meet(server, table))
