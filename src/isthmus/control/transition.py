"""Make before break across proxies: what stays for a moment although the manifests no longer have it.

Inside one proxy the order of its stream does this (``ads/stream.py``). Between proxies nobody orders anything: the
listener of a sidecar, and the endpoint that callers send to, reach different Envoys at different times. So

- a listening place that comes while the mesh runs is no endpoint until its proxy has opened it (``World.starting``);
- a service whose endpoints would all be such places keeps those it had;
- a listener before a program, and a proxy, that the manifests no longer have stay until every caller knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from isthmus.ads.status import ProxyStatus
from isthmus.latest import Latest
from isthmus.model.world import Address, PortKey, World
from isthmus.xds.name import inbound_cluster, inbound_listener
from isthmus.xds.snapshot import (
    CLUSTER,
    EMPTY,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    Built,
    Snapshot,
    message,
    overlay,
    unlike,
)

_INBOUND = "inbound"
_Name = tuple[str, str]


class Transition:
    """What is kept, and since when: turns count the changes that left something to see off."""

    def __init__(self, runs: Callable[[str], bool] = lambda proxy: True) -> None:
        """``runs``: whether a proxy ran before this control plane started; at a first start it does not matter."""
        self.runs = runs
        self.turns: Latest[int] = Latest(0)
        self._kept: dict[str, dict[_Name, tuple[int, Built]]] = {}
        self._gone: dict[str, int] = {}

    @property
    def gone(self) -> frozenset[str]:
        """Proxies that the mesh no longer has, and that still run."""
        return frozenset(self._gone)

    def merge(
        self, before: Mapping[str, Snapshot], fresh: Mapping[str, Snapshot], world: World
    ) -> Mapping[str, Snapshot]:
        """What the proxies of ``fresh`` are to be given now; those of ``before`` alone stay as they are."""
        turn = self.turns.value + 1
        leaving = [proxy for proxy, had in before.items() if proxy not in fresh and had != EMPTY]
        self._gone = {proxy: self._gone.get(proxy, turn) for proxy in leaving}
        kept: dict[str, dict[_Name, tuple[int, Built]]] = {}
        for proxy, found in fresh.items():
            stays = _vanished(before.get(proxy, EMPTY), found) | _bereft(before.get(proxy, EMPTY), found, world)
            if stays:
                known = self._kept.get(proxy, {})
                kept[proxy] = {name: (known.get(name, (turn, built))[0], built) for name, built in stays.items()}
        self._kept = kept
        since = [*self._gone.values(), *(first for names in kept.values() for first, _ in names.values())]
        if turn in since:
            self.turns.set(turn)
        return {proxy: self._with_kept(proxy, found) for proxy, found in fresh.items()}

    def see_off(self, turn: int) -> frozenset[str]:
        """Keep nothing any longer that left by ``turn``; the proxies among it."""
        gone = frozenset(proxy for proxy, since in self._gone.items() if since <= turn)
        self._gone = {proxy: since for proxy, since in self._gone.items() if proxy not in gone}
        self._kept = {
            proxy: {name: kept for name, kept in names.items() if kept[0] > turn} for proxy, names in self._kept.items()
        }
        return gone

    def apply(self, fresh: Mapping[str, Snapshot]) -> Mapping[str, Snapshot]:
        """``fresh`` with what is still kept."""
        return {proxy: self._with_kept(proxy, found) for proxy, found in fresh.items()}

    def _with_kept(self, proxy: str, found: Snapshot) -> Snapshot:
        kept = self._kept.get(proxy)
        if not kept:
            return found
        return overlay(found, (built for _, built in kept.values()))


def _vanished(before: Snapshot, found: Snapshot) -> dict[_Name, Built]:
    """The listeners before programs that are gone, with what only they use."""
    return {
        (type_url, name): built
        for type_url in (LISTENER, EXTENSION, CLUSTER)
        for name in unlike(before.of(type_url), found.of(type_url))
        if name.startswith(_INBOUND) and name not in found.of(type_url)
        for built in (before.of(type_url)[name],)
    }


def _bereft(before: Snapshot, found: Snapshot, world: World) -> dict[_Name, Built]:
    """Endpoints, with their clusters, of services whose new ones all start only now."""
    if not world.starting:
        return {}
    stays: dict[_Name, Built] = {}
    for name in unlike(before.of(ENDPOINT), found.of(ENDPOINT)):
        had, built = before.of(ENDPOINT).get(name), found.of(ENDPOINT).get(name)
        if (
            had is not None
            and built is not None
            and had.version != built.version
            and not _endpoints(built)
            and _endpoints(had)
        ):
            stays[ENDPOINT, name] = had
            stays[CLUSTER, name] = before.of(CLUSTER)[name]
    return stays


def _endpoints(built: Built) -> bool:
    assignment: Any = message(built)
    return bool(assignment.endpoints)


def new_places(addresses: Mapping[PortKey, Address], world: World) -> frozenset[PortKey]:
    """Listening places before programs that ``world`` does not have, or has elsewhere."""
    return frozenset(
        key for key, address in addresses.items() if key.purpose == _INBOUND and world.addresses.get(key) != address
    )


def opened(
    starting: Iterable[PortKey], statuses: Iterable[ProxyStatus], snapshots: Mapping[str, Snapshot]
) -> frozenset[PortKey]:
    """Those of ``starting`` that their proxy has opened: it confirmed the listener and every filter of it."""
    by_proxy = {status.proxy_id: status for status in statuses}
    return frozenset(
        key
        for key in starting
        if key.proxy in by_proxy and key.proxy in snapshots and _open(key, by_proxy[key.proxy], snapshots[key.proxy])
    )


def _open(key: PortKey, status: ProxyStatus, wanted: Snapshot) -> bool:
    listener, cluster = inbound_listener(key.number), inbound_cluster(key.number)
    names = [(LISTENER, listener), (CLUSTER, cluster)]
    names += [(EXTENSION, name) for name in wanted.of(EXTENSION) if name.startswith(f"{listener}/")]
    return all(
        name in wanted.of(type_url)
        and type_url in status.types
        and status.types[type_url].acked.get(name) == wanted.of(type_url)[name].version
        for type_url, name in names
    )
