"""The delta stream of one Envoy, without any IO: requests and snapshots in, encoded responses out.

A change reaches Envoy so that no request falls between two states (make before break): new clusters and their
endpoints, then, once Envoy has confirmed them, the listeners and routes that use them, then the removal of listeners.
Envoy confirms a response of clusters when they are warm, so the confirmation is the gate. A gate that does not open
within ``ACK_DEADLINE`` is passed, and a newer snapshot starts over: what counts is the newest, and what differs between
it and what the proxy was told.

A listener that is removed goes on with the requests of its standing connections for a while. So nothing is removed that
they may need: what Envoy asks for by name it drops itself when nobody uses it any more (a filter that is removed before
answers every request with 500), and clusters linger (:mod:`isthmus.ads.leaving`).

A refused route or listener keeps the clusters that its earlier version uses: they are removed when it is mended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from isthmus.ads.leaving import LINGER, Leaving
from isthmus.ads.status import ProxyStatus, SyncState
from isthmus.ads.subscription import WILDCARD, Subscription
from isthmus.ads.wire import delta_response, whole_response
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, Built, Snapshot

# Envoy holds its confirmation of clusters back while one of them warms: up to initial_fetch_timeout, 15 s by default.
ACK_DEADLINE = timedelta(seconds=20)

SERVED = (CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE)
"""The types that are served here. Secrets are not: they are the node agent's, and never pass through ADS."""


SHORT = {CLUSTER: "cds", ENDPOINT: "eds", EXTENSION: "ecds", LISTENER: "lds", ROUTE: "rds"}


@dataclass(frozen=True, slots=True)
class _Step:
    """A part of a push; the next begins when Envoy has answered all responses of these types."""

    types: tuple[str, ...]
    removes: bool


_STEPS = (
    _Step((CLUSTER, ENDPOINT), removes=False),
    _Step((EXTENSION, LISTENER, ROUTE), removes=False),
    _Step((LISTENER,), removes=True),
)
_SETTLED = len(_STEPS)


class Stream:
    """One stream of one proxy. ``now`` may not go backwards."""

    def __init__(
        self,
        proxy_id: str,
        snapshot: Snapshot,
        connected: datetime,
        uncertain: Mapping[str, frozenset[str]] = MappingProxyType({}),
        counts: Counter[tuple[str, ...]] | None = None,
        linger: timedelta = LINGER,
    ) -> None:
        """``uncertain``: what :meth:`uncertain` of the proxy's last stream said, if there was one.

        ``counts``: where responses and refusals are counted. ``linger``: how long a cluster outlives its last use.
        """
        self._counts: Counter[tuple[str, ...]] = counts if counts is not None else Counter()
        self.proxy_id = proxy_id
        self._snapshot = snapshot
        self._connected = connected
        self._uncertain = uncertain
        self._types = {
            type_url: Subscription(type_url, wildcard_by_default=type_url in (CLUSTER, LISTENER)) for type_url in SERVED
        }
        self._leaving = Leaving(linger)
        self._responses = 0
        self._step = _SETTLED
        self._blocked_since: datetime | None = None

    def receive(self, request: Any, now: datetime) -> list[bytes]:
        """Take a DeltaDiscoveryRequest; return the serialised DeltaDiscoveryResponses to send, in order."""
        subscription = self._types.get(request.type_url)
        if subscription is None:
            return self._answer_unserved(request)
        resources = self._snapshot.of(request.type_url)
        out: list[bytes] = []
        if request.response_nonce and request.HasField("error_detail"):
            self._counts["pilot_total_xds_rejects", SHORT[request.type_url]] += 1
            alone = subscription.nack(request.response_nonce, request.error_detail.message, resources)
            out += [self._respond(subscription, [built], (), now) for built in alone]
        elif request.response_nonce:
            subscription.ack(request.response_nonce, now)
        if subscription.request(request, resources, self._uncertain.get(request.type_url, ())):
            self._start_over()
        return out + self._advance(now)

    def publish(self, snapshot: Snapshot, now: datetime) -> list[bytes]:
        """Make ``snapshot`` what the proxy should have; return what can be sent of it now, in order."""
        last, self._snapshot = self._snapshot, snapshot
        for type_url, subscription in self._types.items():
            if snapshot.of(type_url) is not last.of(type_url):
                subscription.compare(snapshot.of(type_url))
        self._leaving.call_back(snapshot.of(CLUSTER))
        self._start_over()
        return self._advance(now)

    def tick(self, now: datetime) -> list[bytes]:
        """Call at :attr:`next_deadline`: return what need not wait any longer."""
        return self._advance(now)

    @property
    def next_deadline(self) -> datetime | None:
        """When to call :meth:`tick`; None while nothing waits for a time."""
        return min((time for time in (self._gate_deadline, self._leaving.next_time) if time is not None), default=None)

    @property
    def _gate_deadline(self) -> datetime | None:
        if self._blocked_since is None or self._step == _SETTLED:
            return None
        waiting = list(self._flights(_STEPS[self._step]))
        return min(self._blocked_since, max(waiting)) + ACK_DEADLINE if waiting else None

    def status(self) -> ProxyStatus:
        """How the proxy stands towards the newest snapshot."""
        types = {
            type_url: subscription.status(self._snapshot.of(type_url), self._leaving if type_url == CLUSTER else ())
            for type_url, subscription in self._types.items()
        }
        unasked = SyncState.NOT_SENT
        in_sync = (
            self._step == _SETTLED
            and all(types[type_url].state is SyncState.SYNCED for type_url in (CLUSTER, LISTENER))
            and all(status.state in (SyncState.SYNCED, unasked) for status in types.values())
        )
        refusals = tuple(
            refusal
            for type_url, subscription in self._types.items()
            for refusal in subscription.refusals(self._snapshot.of(type_url))
        )
        return ProxyStatus(
            self.proxy_id, self._connected, self._snapshot.version, in_sync, MappingProxyType(types), refusals
        )

    def in_sync(self, version: str) -> bool:
        """Whether the snapshot ``version`` is the newest and the proxy has confirmed all that it asked for of it."""
        return self._snapshot.version == version and self.status().in_sync

    def uncertain(self) -> Mapping[str, frozenset[str]]:
        """By type, what the proxy may have without having said so: for its next stream, to remove what is gone."""
        found = {
            type_url: subscription.uncertain() if subscription.begun else self._uncertain.get(type_url, frozenset())
            for type_url, subscription in self._types.items()
        }
        return {type_url: names for type_url, names in found.items() if names}

    def _start_over(self) -> None:
        # A push that takes the place of one that still waits at the first gate waits no longer than that one: a
        # stream of changes to the clusters does not hold the routes back for ever.
        if self._step != 0:
            self._step = 0
            self._blocked_since = None

    def _advance(self, now: datetime) -> list[bytes]:
        out = self._push(now)
        if gone := self._leaving.take(now):
            out.append(self._respond(self._types[CLUSTER], (), gone, now))
        return out

    def _push(self, now: datetime) -> list[bytes]:
        out: list[bytes] = []
        while True:
            for step in _STEPS[: self._step + 1]:
                if not step.removes:
                    out += self._send_due(step, now)
            if self._step == _SETTLED and not self._must_keep():
                self._leaving.add(self._types[CLUSTER].vanished(self._snapshot.of(CLUSTER)), now)
            if self._step == _SETTLED:
                for type_url, subscription in self._types.items():
                    subscription.settle(self._snapshot.of(type_url))
                return out
            step = _STEPS[self._step]
            if step.removes:
                out += self._send_removals(step, now)
            if self._blocks(step, now):
                return out
            self._step += 1
            self._blocked_since = None

    def _send_due(self, step: _Step, now: datetime) -> list[bytes]:
        out: list[bytes] = []
        for type_url in step.types:
            subscription = self._types[type_url]
            builts, missing = subscription.take_due(self._snapshot.of(type_url))
            if type_url == CLUSTER:
                self._renew_endpoints(builts)
            if builts or missing or subscription.owes_answer:
                out.append(self._respond(subscription, builts, missing, now))
        return out

    def _renew_endpoints(self, clusters: Iterable[Built]) -> None:
        # A changed cluster warms until its endpoints are sent again, or initial_fetch_timeout, unless they are.
        known = self._types[CLUSTER]
        fresh = known.told_nothing
        changed = [each.name for each in clusters if fresh or known.told(each.name) != each.version]
        self._types[ENDPOINT].renew(changed, self._snapshot.of(ENDPOINT))

    def _send_removals(self, step: _Step, now: datetime) -> list[bytes]:
        out: list[bytes] = []
        for type_url in step.types:
            gone = self._types[type_url].vanished(self._snapshot.of(type_url))
            if gone:
                out.append(self._respond(self._types[type_url], (), gone, now))
        return out

    def _must_keep(self) -> bool:
        users = (EXTENSION, LISTENER, ROUTE)
        return any(self._types[user].keeps_older(self._snapshot.of(user)) for user in users)

    def _blocks(self, step: _Step, now: datetime) -> bool:
        waiting = list(self._flights(step))
        if not waiting or now >= max(waiting) + ACK_DEADLINE:
            return False
        if self._blocked_since is None:
            self._blocked_since = now
        return now < self._blocked_since + ACK_DEADLINE

    def _flights(self, step: _Step) -> Iterable[datetime]:
        return (sent_at for type_url in step.types for sent_at in self._types[type_url].flights())

    def _respond(
        self, subscription: Subscription, builts: Sequence[Built], removed: Sequence[str], now: datetime
    ) -> bytes:
        nonce = self._next_nonce()
        self._counts["pilot_xds_pushes", SHORT[subscription.type_url]] += 1
        resources = self._snapshot.of(subscription.type_url)
        if len(builts) == len(resources) and not removed and subscription.told_nothing:
            subscription.sent_all(nonce, resources, now)
            return whole_response(subscription.type_url, nonce, self._snapshot.version, resources)
        subscription.sent(nonce, builts, removed, now)
        wires = (built.wire for built in builts)
        return delta_response(subscription.type_url, nonce, self._snapshot.version, wires, removed)

    def _answer_unserved(self, request: Any) -> list[bytes]:
        names = [name for name in request.resource_names_subscribe if name != WILDCARD]
        if not request.resource_names_subscribe and request.response_nonce:
            return []
        return [delta_response(request.type_url, self._next_nonce(), self._snapshot.version, (), names)]

    def _next_nonce(self) -> str:
        self._responses += 1
        return str(self._responses)
