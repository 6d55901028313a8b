"""One type of resource on one delta stream: what the proxy wants, was told, confirmed and refused.

Rules: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol (incremental xDS).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from isthmus.ads.status import Refusal, SyncState, TypeStatus
from isthmus.ads.versions import Acked, Names, Told
from isthmus.xds.snapshot import Built, names_of

WILDCARD = "*"
_UNKNOWN = ""  # the version of a resource that the proxy may or may not have
MESSAGE_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class _Flight:
    """A response without its answer yet. In ``entries``, a version of None stands for a removal."""

    sent_at: datetime
    some: tuple[tuple[str, str | None], ...] = ()
    all: Mapping[str, Built] | None = None
    """Where the response was all of the resources, these, instead of ``some``."""

    @property
    def entries(self) -> Iterable[tuple[str, str | None]]:
        return self.some if self.all is None else ((built.name, built.version) for built in self.all.values())


@dataclass(slots=True)
class Subscription:
    """The state of one type; ``resources`` in its methods are those of the newest snapshot, by name."""

    type_url: str
    wildcard_by_default: bool
    """Whether a first request without names asks for everything: so with clusters and listeners.

    What is asked for by name is never removed: Envoy drops it when nobody uses it any more, and says so. A removal
    would take a filter from a listener that still drains, or that goes on as it was because its new version is bad.
    """

    owes_answer: bool = False
    """A wildcard was asked for: Envoy waits for a response, even an empty one."""
    begun: bool = False
    """Whether the proxy has asked for the type on this stream."""
    _wildcard: bool = False
    _names: Names = field(default_factory=Names)
    _told: Told = field(default_factory=Told)
    _acked: Acked = field(default_factory=Acked)
    _due: dict[str, bool] = field(default_factory=dict)  # name → whether it is sent even if it did not change
    _renewed: set[str] = field(default_factory=set)
    _flights: dict[str, _Flight] = field(default_factory=dict)
    _refused: dict[str, Refusal] = field(default_factory=dict)
    _doubts: dict[str, set[str]] = field(default_factory=dict)  # versions that the proxy may have without a word
    _sent: bool = False
    _last_ack: datetime | None = None

    def wants(self, name: str) -> bool:
        return self._wildcard or name in self._names

    # What the proxy says

    def request(self, request: Any, resources: Mapping[str, Built], uncertain: Iterable[str]) -> bool:
        """Take the subscription changes of a DeltaDiscoveryRequest; say whether it is the first of its type.

        ``uncertain`` are names that the proxy may still have from an earlier stream without saying so.
        """
        first = not self.begun
        known = dict(request.initial_resource_versions) if first else {}
        if first:
            self.begun = True
            if self.wildcard_by_default and not request.resource_names_subscribe:
                self._wildcard = self.owes_answer = True
        for name in request.resource_names_unsubscribe:
            self._unsubscribe(name)
        subscribed = tuple(request.resource_names_subscribe)
        if not known and WILDCARD not in subscribed:
            self._names.update(dict.fromkeys(subscribed))
            self._due.update(dict.fromkeys(subscribed, True))
            self._renewed.difference_update(subscribed)
            subscribed = ()
        for name in subscribed:
            if name == WILDCARD:
                self._wildcard = self.owes_answer = True
                continue
            self._names[name] = None
            self._due[name] = name not in known or name in self._renewed
            self._renewed.discard(name)
        if first:
            held = {name: version for name, version in known.items() if self.wants(name)}
            self._acked.update(held)
            self._told.update(held)
            doubted = [name for name in sorted(uncertain) if self.wants(name)]
            self._told.update((name, _UNKNOWN) for name in doubted)
            self._doubts.update((name, {_UNKNOWN}) for name in doubted)
        if self._wildcard:
            self.compare(resources)
        return first

    def _unsubscribe(self, name: str) -> None:
        if name == WILDCARD:
            self._wildcard = self.owes_answer = False
            for held in [*self._told, *self._due]:
                if held not in self._names:
                    self._forget(held)
            return
        self._names.pop(name, None)
        if self._wildcard:
            # The wildcard may still cover it, and the proxy may have dropped it: say again what holds.
            self._due[name] = True
        else:
            self._forget(name)

    def _forget(self, name: str) -> None:
        for state in (self._told, self._acked, self._due, self._refused, self._doubts):
            state.pop(name, None)

    def ack(self, nonce: str, now: datetime) -> None:
        """The proxy took a response. A nonce that is not (any more) awaited is nobody's."""
        flight = self._flights.pop(nonce, None)
        if flight is None:
            return
        self._last_ack = now
        if flight.all is not None and self._told.is_just(flight.all) and not self._refused and not self._doubts:
            self._acked.become(flight.all)
            return
        for name, version in flight.entries:
            if name not in self._told:
                continue
            self._refused.pop(name, None)
            if version is None:
                self._confirm_removal(name)
            else:
                self._acked[name] = version
                self._doubts.pop(name, None)

    def nack(self, nonce: str, message: str, resources: Mapping[str, Built]) -> Sequence[Built]:
        """The proxy refused a response. Returns the resources to send again, each in a response of its own.

        Envoy applies the good part of a response that it refuses, and its words name the bad part for people only:
        which resource is bad shows when each is alone. One that was alone is refused.
        """
        flight = self._flights.pop(nonce, None)
        if flight is None:
            return ()
        upserts = [(name, version) for name, version in flight.entries if version is not None]
        for name, version in flight.entries:
            if version is None:
                self._confirm_removal(name)
        newest = [(name, version) for name, version in upserts if self._told.get(name) == version]
        if len(upserts) != 1:
            for name, version in upserts:
                self._doubts.setdefault(name, set()).add(version)
            return [resources[name] for name, version in newest if _version(resources, name) == version]
        for name, version in upserts:
            self._doubts.get(name, set()).discard(version)
        for name, version in newest:
            origins = resources[name].origins if name in resources else ()
            self._refused[name] = Refusal(self.type_url, name, version, message[:MESSAGE_LIMIT], origins)
        return ()

    def _confirm_removal(self, name: str) -> None:
        self._acked.pop(name, None)
        self._doubts.pop(name, None)
        if self._told.get(name, _UNKNOWN) is None and name not in self._names:
            del self._told[name]

    # What the proxy is to be told

    def compare(self, resources: Mapping[str, Built]) -> None:
        """Note what differs from what the proxy was told."""
        if not self._told and self._wildcard:
            self._due = dict.fromkeys(resources, False) | self._due
        for name in self._told.suspects(resources) if self._told else self._names:
            if name in resources and self.wants(name) and self._told.get(name) != resources[name].version:
                self._due.setdefault(name, False)
        for name, refusal in self._refused.items():
            built = resources.get(name)
            if built is not None and built.version == refusal.version and built.origins != refusal.origins:
                self._refused[name] = Refusal(self.type_url, name, refusal.version, refusal.message, built.origins)

    def renew(self, names: Iterable[str], resources: Mapping[str, Built]) -> None:
        """Send ``names`` again as they are, now or, if the proxy has not asked for them yet, as soon as it does."""
        if not self._wildcard and not self._names:
            self._renewed.update(names)
            return
        for name in names:
            self._renew(name, resources)

    def _renew(self, name: str, resources: Mapping[str, Built]) -> None:
        if not self.wants(name):
            self._renewed.add(name)
        elif name not in self._refused or self._refused[name].version != _version(resources, name):
            self._due[name] = True

    def take_due(self, resources: Mapping[str, Built]) -> tuple[list[Built], list[str]]:
        """What to send now: resources that are new to the proxy, and names it asked for that do not exist."""
        if not self._told and self._due.keys() == names_of(resources):
            self._due = {}
            return list(resources.values()), []
        builts: list[Built] = []
        missing: list[str] = []
        for name, even_unchanged in self._due.items():
            built = resources.get(name)
            if built is None:
                if even_unchanged:
                    missing.append(name)
            elif even_unchanged or self._told.get(name) != built.version:
                builts.append(built)
        self._due.clear()
        return builts, missing

    def vanished(self, resources: Mapping[str, Built]) -> list[str]:
        """Names that the proxy was told of, that do not exist any more, and that it drops only when it is told to."""
        if not self.wildcard_by_default:
            return []
        suspects = self._told.suspects(resources)
        return [name for name in suspects if self._told.get(name) is not None and name not in resources]

    def settle(self, resources: Mapping[str, Built]) -> None:
        """Nothing is under way: hold no more than where the proxy differs from ``resources``."""
        if not self._flights and not self._due:
            for state in (self._names, self._told, self._acked):
                state.rebase(resources)
            self._renewed = set(self._renewed)  # Python shrinks no set that was large

    @property
    def told_nothing(self) -> bool:
        return not self._told

    def told(self, name: str) -> str | None:
        """The version of ``name`` that was sent last; None when it was removed or never sent."""
        return self._told.get(name)

    def sent_all(self, nonce: str, resources: Mapping[str, Built], now: datetime) -> None:
        """A response with all of ``resources`` is on its way, to a proxy that was told of nothing before."""
        self._flights[nonce] = _Flight(now, all=resources)
        self._told.become(resources)
        self._sent = True
        self.owes_answer = False

    def sent(self, nonce: str, builts: Iterable[Built], removed: Iterable[str], now: datetime) -> None:
        """A response is on its way."""
        entries: list[tuple[str, str | None]] = [(built.name, built.version) for built in builts]
        entries += [(name, None) for name in removed]
        self._flights[nonce] = _Flight(now, tuple(entries))
        self._told.update(entries)
        self._sent = True
        self.owes_answer = False

    # How it stands

    def flights(self) -> Iterator[datetime]:
        """When each response was sent that is not answered yet."""
        return (flight.sent_at for flight in self._flights.values())

    def refusals(self, resources: Mapping[str, Built]) -> tuple[Refusal, ...]:
        """What the proxy refused of what it should have; a resource that is gone is nobody's fault any more."""
        if not self._refused:
            return ()
        return tuple(self._refused[name] for name in sorted(self._refused) if name in resources)

    def keeps_older(self, resources: Mapping[str, Built]) -> bool:
        """Whether the proxy goes on with an earlier version of something that it refused."""
        return any(name in resources and (name in self._acked or self._doubts.get(name)) for name in self._refused)

    def uncertain(self) -> frozenset[str]:
        """What the proxy may have without having said so: part of a response that it refused, or did not answer."""
        if self._told == self._acked and not self._flights:
            return frozenset()
        unconfirmed = {
            name for name, version in self._told.items() if version is not None and self._acked.get(name) != version
        }
        unanswered = {name for flight in self._flights.values() for name, _ in flight.entries}
        return frozenset(unconfirmed | unanswered)

    def status(self, resources: Mapping[str, Built], leaving: Container[str] = ()) -> TypeStatus:
        """How the proxy stands towards ``resources``; what is ``leaving`` is no fault of its."""
        if self.refusals(resources):
            state = SyncState.ERROR
        elif not self.begun or not (self._sent or self._told or self._flights):
            state = SyncState.NOT_SENT
        elif self._flights or self._due or self.owes_answer or self._lags(resources, leaving):
            state = SyncState.STALE
        else:
            state = SyncState.SYNCED
        return TypeStatus(state, self._acked.copy(), self._last_ack)

    def _lags(self, resources: Mapping[str, Built], leaving: Container[str]) -> bool:
        return any(name not in leaving for name in self.vanished(resources))


def _version(resources: Mapping[str, Built], name: str) -> str | None:
    built = resources.get(name)
    return None if built is None else built.version
