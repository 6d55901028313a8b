"""The state-of-the-world stream of one Envoy (``api_type: GRPC``), without any IO: for Envoys that others configure.

As :mod:`isthmus.ads.stream`, in the older form of the protocol: a response of clusters or listeners is all of them, and
what it leaves out is removed. So clusters that are gone are sent on with the new ones until the proxy has confirmed the
listeners and routes that do without them, and for a while longer (:mod:`isthmus.ads.leaving`). What goes by name
(endpoints, routes, filters) is sent for all names asked for, as far as they exist.

Rules: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol (basic protocol, ACK and NACK).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from isthmus.ads.leaving import LINGER, Leaving
from isthmus.ads.status import ProxyStatus, Refusal, SyncState, TypeStatus
from isthmus.ads.stream import ACK_DEADLINE, SERVED, SHORT
from isthmus.ads.subscription import MESSAGE_LIMIT, WILDCARD
from isthmus.envoy_api.packages import discovery_v3
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, Built, Snapshot

_STEPS = ((CLUSTER, ENDPOINT), (EXTENSION, LISTENER, ROUTE))
"""What is confirmed before the next is sent; then the clusters that nobody needs any more begin to leave."""
_SETTLED = len(_STEPS)


@dataclass(slots=True)
class _Asked:
    """One type: what the proxy asks for, was sent last, and confirmed."""

    type_url: str
    begun: bool = False
    names: frozenset[str] = frozenset()
    due: bool = False
    """To be answered even if nothing changed: it asks for more, or for the first time."""
    nonce: str = ""
    sent: Mapping[str, Built] = field(default_factory=dict)
    sent_at: datetime | None = None
    """Of a response that is not answered yet."""
    acked: Mapping[str, Built] = field(default_factory=dict)
    last_ack: datetime | None = None
    refusals: tuple[Refusal, ...] = ()

    @property
    def by_name(self) -> bool:
        return self.type_url not in (CLUSTER, LISTENER)

    @property
    def everything(self) -> bool:
        return not self.by_name and (not self.names or WILDCARD in self.names)

    def ask(self, names: frozenset[str]) -> None:
        """From now on ``names``; of what is not asked for any more, nothing is known."""
        self.begun, self.names = True, names
        if not self.everything:
            self.sent = {name: built for name, built in self.sent.items() if name in names}
            self.acked = {name: built for name, built in self.acked.items() if name in names}

    def let_go(self, names: Collection[str]) -> None:
        """The next response does without ``names``."""
        self.sent = {name: built for name, built in self.sent.items() if name not in names}
        self.due = True

    def wanted(self, resources: Mapping[str, Built]) -> dict[str, Built]:
        if self.everything:
            return dict(resources)
        return {name: resources[name] for name in sorted(self.names) if name in resources}


class WholeStream:
    """One stream of one proxy. ``now`` may not go backwards."""

    def __init__(
        self,
        proxy_id: str,
        snapshot: Snapshot,
        connected: datetime,
        counts: Counter[tuple[str, ...]] | None = None,
        linger: timedelta = LINGER,
    ) -> None:
        """``counts``: where responses and refusals are counted.

        ``linger``: how long a cluster outlives its last use.
        """
        self._counts: Counter[tuple[str, ...]] = counts if counts is not None else Counter()
        self.proxy_id = proxy_id
        self._snapshot = snapshot
        self._connected = connected
        self._types = {type_url: _Asked(type_url) for type_url in SERVED}
        self._leaving = Leaving(linger)
        self._responses = 0
        self._step = _SETTLED
        self._blocked_since: datetime | None = None

    def receive(self, request: Any, now: datetime) -> list[bytes]:
        """Take a DiscoveryRequest; return the serialised DiscoveryResponses to send, in order."""
        asked = self._types.get(request.type_url)
        if asked is None:
            # Secrets and others are not served here, and there is no way to say so: who asks waits.
            return []
        if request.response_nonce and request.response_nonce != asked.nonce:
            # Of a response that another one has overtaken. Who wants nothing any more does not answer that one either.
            if asked.by_name and not request.resource_names:
                asked.sent_at = None
                asked.ask(frozenset())
                return self._advance(now)
            return []
        if request.response_nonce and request.HasField("error_detail"):
            self._counts["pilot_total_xds_rejects", SHORT[asked.type_url]] += 1
            self._refused(asked, request.error_detail.message)
        elif request.response_nonce and asked.sent_at is not None:
            asked.acked, asked.last_ack, asked.refusals = asked.sent, now, ()
        if request.response_nonce:
            asked.sent_at = None
        names = frozenset(request.resource_names)
        asked.due = asked.due or not asked.begun or not names <= asked.names
        if not asked.begun:
            self._start_over()
        asked.ask(names)
        return self._advance(now)

    def publish(self, snapshot: Snapshot, now: datetime) -> list[bytes]:
        """Make ``snapshot`` what the proxy should have; return what can be sent of it now, in order."""
        self._snapshot = snapshot
        self._leaving.call_back(snapshot.of(CLUSTER))
        self._start_over()
        return self._advance(now)

    def tick(self, now: datetime) -> list[bytes]:
        """Call at :attr:`next_deadline`: return what need not wait any longer."""
        return self._advance(now)

    @property
    def next_deadline(self) -> datetime | None:
        """When to call :meth:`tick`; None while nothing waits for a time."""
        blocked = self._blocked_since if self._step != _SETTLED else None
        gate = None if blocked is None else blocked + ACK_DEADLINE
        return min((time for time in (gate, self._leaving.next_time) if time is not None), default=None)

    def uncertain(self) -> Mapping[str, frozenset[str]]:
        """Nothing: the next stream says all there is."""
        return MappingProxyType({})

    def in_sync(self, version: str) -> bool:
        """Whether the snapshot ``version`` is the newest and the proxy has confirmed all that it asked for of it."""
        return self._snapshot.version == version and self.status().in_sync

    def status(self) -> ProxyStatus:
        """How the proxy stands towards the newest snapshot."""
        types = {type_url: self._type_status(asked) for type_url, asked in self._types.items()}
        fine = (SyncState.SYNCED, SyncState.NOT_SENT)
        in_sync = (
            self._step == _SETTLED
            and all(types[type_url].state is SyncState.SYNCED for type_url in (CLUSTER, LISTENER))
            and all(status.state in fine for status in types.values())
        )
        refusals = tuple(refusal for asked in self._types.values() for refusal in asked.refusals)
        return ProxyStatus(
            self.proxy_id, self._connected, self._snapshot.version, in_sync, MappingProxyType(types), refusals
        )

    def _type_status(self, asked: _Asked) -> TypeStatus:
        acked = {name: built.version for name, built in asked.acked.items()}
        if asked.refusals:
            state = SyncState.ERROR
        elif not asked.begun:
            state = SyncState.NOT_SENT
        elif asked.sent_at is not None or asked.due or self._differs(asked):
            state = SyncState.STALE
        else:
            state = SyncState.SYNCED
        return TypeStatus(state, acked, asked.last_ack)

    def _refused(self, asked: _Asked, message: str) -> None:
        """The whole response is refused, its good part applied: what is bad is what changed and Envoy's words name."""
        changed = [built for name, built in asked.sent.items() if not _same(asked.acked.get(name), built)]
        named = [built for built in changed if built.name in message] or changed or list(asked.sent.values())[:1]
        asked.refusals = tuple(
            Refusal(asked.type_url, built.name, built.version, message[:MESSAGE_LIMIT], built.origins)
            for built in named
        )

    def _start_over(self) -> None:
        if self._step != 0:
            self._step, self._blocked_since = 0, None

    def _advance(self, now: datetime) -> list[bytes]:
        out = self._push(now)
        if gone := self._leaving.take(now):
            self._types[CLUSTER].let_go(gone)
        # Everybody does without what leaves, whatever waits behind a gate; the rest waits there.
        for types in _STEPS if self._step == _SETTLED else ((CLUSTER,),):
            out += self._send(types, now, only_due=True)
        return out

    def _push(self, now: datetime) -> list[bytes]:
        out: list[bytes] = []
        while self._step != _SETTLED:
            types = _STEPS[self._step]
            out += self._send(types, now)
            if self._blocks(types, now):
                return out
            self._step, self._blocked_since = self._step + 1, None
        # Who refused something goes on with an earlier version of it, and with the clusters of that.
        if not any(self._types[user].refusals for user in _STEPS[1]):
            self._leaving.add(self._gone(), now)
        return out

    def _gone(self) -> dict[str, Built]:
        """The clusters that were sent, and that there are none of any more."""
        sent, resources = self._types[CLUSTER].sent, self._snapshot.of(CLUSTER)
        return {name: built for name, built in sent.items() if name not in resources}

    def _send(self, types: tuple[str, ...], now: datetime, *, only_due: bool = False) -> Iterator[bytes]:
        for type_url in types:
            asked = self._types[type_url]
            if not asked.begun or not (asked.due or (not only_due and self._differs(asked))):
                continue
            content = self._content(asked)
            if asked.by_name and not content:
                # Nothing can be said of what is not there.
                asked.due = False
                continue
            if type_url == CLUSTER and self._types[ENDPOINT].begun and self._changes(asked, content):
                # A changed cluster waits for its endpoints to be sent again.
                self._types[ENDPOINT].due = True
            yield self._respond(asked, content, now)

    def _content(self, asked: _Asked) -> dict[str, Built]:
        """With clusters that are gone, until they are let go."""
        found = asked.wanted(self._snapshot.of(asked.type_url))
        return {**self._gone(), **found} if asked.type_url == CLUSTER else found

    def _differs(self, asked: _Asked) -> bool:
        content = self._content(asked)
        # That something by name is gone cannot be said: the proxy stops asking when nothing leads there any more.
        gone = not asked.by_name and content.keys() != asked.sent.keys()
        return gone or self._changes(asked, content)

    def _changes(self, asked: _Asked, content: Mapping[str, Built]) -> bool:
        return any(not _same(asked.sent.get(name), built) for name, built in content.items())

    def _respond(self, asked: _Asked, content: dict[str, Built], now: datetime) -> bytes:
        self._responses += 1
        self._counts["pilot_xds_pushes", SHORT[asked.type_url]] += 1
        asked.nonce, asked.sent, asked.sent_at, asked.due = str(self._responses), content, now, False
        resources = [discovery_v3.Resource.FromString(built.wire).resource for built in content.values()]
        response = discovery_v3.DiscoveryResponse(
            version_info=_version(content), type_url=asked.type_url, nonce=asked.nonce, resources=resources
        )
        encoded: bytes = response.SerializeToString()
        return encoded

    def _blocks(self, types: tuple[str, ...], now: datetime) -> bool:
        if all(self._types[type_url].sent_at is None for type_url in types):
            return False
        if self._blocked_since is None:
            self._blocked_since = now
        return now < self._blocked_since + ACK_DEADLINE


def _same(one: Built | None, other: Built) -> bool:
    return one is not None and one.version == other.version


def _version(content: Mapping[str, Built]) -> str:
    """Of what a response holds; the same content has the same version in every process."""
    text = "".join(f"{name}\0{built.version}\0" for name, built in sorted(content.items()))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
