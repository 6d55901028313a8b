"""Other machines: who was let in, for what, what they carry now, and who was put out. Kept in the state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from cryptography import x509

from isthmus.errors import EnvoyFailed, NotEnrolled, Refused
from isthmus.latest import Latest
from isthmus.model.offer import Offer, Scope, SidecarOffer, offer_from_json, offer_to_json

FILE = "nodes.json"
_NOTHING = '{"members": [], "evicted": {}, "certified": [], "denied": []}'
STATISTICS = "statistics"
LOOK = "look"
QUESTIONS = (STATISTICS, LOOK)
"""What a node is asked of one of its Envoys: its metrics, and what it runs (``proxy/look.py``)."""
_ANSWER_SECONDS = 10.0
NODE_TTL = timedelta(hours=24)
"""Of a node's own certificate. Long against a workload's: a control plane that is away must not cost a node its
membership."""
GRACE = timedelta(seconds=30)
"""How long a machine may be out of reach before what it carries is taken out of the mesh."""


class PrivateFiles(Protocol):
    """The state directory, as far as nodes need it."""

    def read(self, name: str) -> bytes | None: ...
    def write_private(self, name: str, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Health:
    """What the node's probe says."""

    healthy: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A machine that joined. ``offer``: what it carries; None while it carries nothing."""

    name: str
    scope: Scope
    joined: datetime
    offer: Offer | None = None
    health: Health | None = None
    address: str = ""
    """Where its connection comes from; empty: there is none."""
    away_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Certified:
    """An SVID of a proxy that a node was given."""

    serial: int
    node: str
    identity: str
    expires: datetime
    superseded: bool = False
    """A node's own, from before it joined anew: good for nothing here, and no cause for a list of revoked ones."""


@dataclass(slots=True)
class Session:
    """One open connection of a node. ``ended``: why it must end, as soon as it must."""

    node: str
    ended: Latest[str | None] = field(default_factory=lambda: Latest(None))
    questions: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    """Messages that ask: under one of QUESTIONS a number for the answer, the proxy's id, and what else it takes."""
    answers: dict[int, asyncio.Future[str | None]] = field(default_factory=dict)


class Nodes:
    """Every change is written down, then told by ``changed``."""

    def __init__(
        self,
        files: PrivateFiles,
        clock: Callable[[], datetime],
        grace: timedelta = GRACE,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.changed = changed
        self._files = files
        self._clock = clock
        self._grace = grace
        self._members: dict[str, Member] = {}
        self._evicted: dict[str, datetime] = {}
        self._certified: dict[int, Certified] = {}
        self._denied: dict[int, Certified] = {}
        self._sessions: dict[str, Session] = {}
        self._asked = 0
        self._load()

    @property
    def members(self) -> Mapping[str, Member]:
        return self._members

    @property
    def evicted(self) -> Mapping[str, datetime]:
        """Machines that were put out, and not let in again since."""
        return {name: when for name, when in self._evicted.items() if name not in self._members}

    @property
    def offers(self) -> Mapping[str, Offer]:
        """What is carried now, by node."""
        return {name: member.offer for name, member in self._members.items() if member.offer is not None}

    @property
    def well(self) -> frozenset[str]:
        """Those whose probe says that their program is healthy."""
        return frozenset(one.name for one in self._members.values() if one.health is not None and one.health.healthy)

    @property
    def denied(self) -> frozenset[str]:
        """SPIFFE IDs in certificates that evicted nodes may still have."""
        now = self._clock()
        return frozenset(one.identity for one in self._denied.values() if one.expires > now)

    @property
    def denied_certificates(self) -> tuple[Certified, ...]:
        """Those of evicted nodes that have not ended."""
        now = self._clock()
        return tuple(one for one in self._denied.values() if one.expires > now and not one.superseded)

    def admit(self, name: str, scope: Scope, leaf: str | None = None) -> None:
        """The node showed its join token: from now on it may be this.

        ``leaf``: the certificate (PEM) that it was given for it. What a machine of that name had before counts no more:
        it was let in for something else, or is another machine.
        """
        if leaf is not None:
            self._supersede(name, x509.load_pem_x509_certificate(leaf.encode()).serial_number)
        known = self._members.get(name)
        offer = known.offer if known is not None and known.scope == scope else None
        self._members[name] = Member(name, scope, self._clock(), offer, away_since=self._clock())
        self._end_session(
            name, f"a machine joined as {name} since, with a new token: every machine needs a name of its own"
        )
        self._tell()

    def evict(self, name: str) -> tuple[Certified, ...]:
        """Put a node out, at once; the certificates of its proxies that have not ended yet.

        Raises Refused: there is no such node.
        """
        if name not in self._members:
            out = name in self._evicted
            raise Refused(f'the node "{name}" is out already' if out else f'there is no node "{name}"')
        now = self._clock()
        del self._members[name]
        self._evicted[name] = now
        before = (replace(one, superseded=False) for one in self._denied.values() if one.superseded)
        known = (*self._certified.values(), *before)
        held = tuple(one for one in known if one.node == name and one.expires > now)
        for one in held:
            self._certified.pop(one.serial, None)
            self._denied[one.serial] = one
        self._end_session(name, f"the node {name} was evicted: it needs a new join token")
        self._tell()
        return held

    def _supersede(self, name: str, serial: int) -> None:
        own = self._certified[serial].identity if serial in self._certified else None
        for one in list(self._certified.values()):
            if one.node == name and one.identity == own and one.serial != serial:
                self._denied[one.serial] = replace(self._certified.pop(one.serial), superseded=True)

    def check(self, name: str, peer: bytes) -> None:
        """Raises NotEnrolled unless the node's certificate (PEM, verified by the handshake) still counts."""
        denied = x509.load_pem_x509_certificate(peer).serial_number in self._denied
        if denied and name in self._members:
            raise NotEnrolled(f"a machine joined as {name} since: this one needs a join token of its own")
        if denied or name in self.evicted:
            raise NotEnrolled(f"the node {name} was evicted: it needs a new join token")
        if name not in self._members:
            raise NotEnrolled(f"the node {name} is not known here: it needs a join token")

    def certified(self, node: str, identity: str, leaf: str) -> None:
        """A certificate (PEM) was made for ``node``: its own, or one of its proxies'."""
        made = x509.load_pem_x509_certificate(leaf.encode())
        one = Certified(made.serial_number, node, identity, made.not_valid_after_utc)
        self._certified[one.serial] = one
        self._write()

    def check_proxy(self, peer: bytes, node: str) -> None:
        """Raises NotEnrolled if a proxy of ``node`` shows a certificate that another node was given, or an evicted one.

        Proxies of one service account have one identity, wherever they run; only the certificates differ.
        """
        serial = x509.load_pem_x509_certificate(peer).serial_number
        if serial in self._denied:
            raise NotEnrolled(f"the certificate was given to the node {self._denied[serial].node}, which was evicted")
        known = self._certified.get(serial)
        if known is not None and known.node != node:
            raise NotEnrolled(f"the certificate was given to the node {known.node}, not to {node or 'nobody'}")

    def begin(self, name: str, offer: Offer, address: str) -> Session:
        """A node is connected and carries ``offer``. Raises Refused: not what it was let in for."""
        member = self._members[name]
        if not member.scope.allows(offer.scope):
            raise Refused(f"the node {name} was let in as {member.scope}, not as {offer.scope}")
        other = next((one.name for one in self._members.values() if one.name != name and _same(one.offer, offer)), None)
        if other is not None:
            raise Refused(f"the node {other} carries this already ({offer.scope})")
        self._end_session(name, f"another connected as {name}, with a copy of this state: each needs its own token")
        session = self._sessions[name] = Session(name)
        self._members[name] = replace(member, offer=offer, address=address, away_since=None)
        self._tell()
        return session

    def reported(self, session: Session, health: Health) -> None:
        """What the probe of a connected node says."""
        member = self._members.get(session.node)
        if member is not None and self._sessions.get(session.node) is session and member.health != health:
            self._members[session.node] = replace(member, health=health)
            self._tell()

    def leave(self, session: Session) -> None:
        """A node ends in order: what it carries goes at once."""
        if self._sessions.get(session.node) is session:
            self._members[session.node] = replace(self._members[session.node], offer=None, health=None)
            self._tell()

    def end(self, session: Session) -> None:
        """A connection is over."""
        if self._sessions.get(session.node) is session:
            del self._sessions[session.node]
            member = self._members.get(session.node)
            if member is not None:
                self._members[session.node] = replace(member, address="", away_since=self._clock())
                self._tell()

    async def statistics(self, node: str, proxy_id: str) -> str:
        """Those of an Envoy on another machine, as Envoy prints them. Raises EnvoyFailed: not to be had now."""
        return await self._ask(node, STATISTICS, {"proxy": proxy_id})

    async def look(self, node: str, proxy_id: str, known: str) -> str:
        """What an Envoy on another machine runs, as ``proxy/look.py`` packs it. Raises EnvoyFailed: it is not said."""
        return await self._ask(node, LOOK, {"proxy": proxy_id, "known": known})

    async def _ask(self, node: str, about: str, question: dict[str, str]) -> str:
        session = self._sessions.get(node)
        if session is None:
            raise EnvoyFailed(f"the node {node} is not connected")
        number = self._asked = self._asked + 1
        session.answers[number] = answer = asyncio.get_running_loop().create_future()
        try:
            session.questions.put_nowait({about: {"id": number, **question}})
            async with asyncio.timeout(_ANSWER_SECONDS):
                found: str | None = await answer
        except TimeoutError:
            found = None
        finally:
            del session.answers[number]
        if found is None:
            raise EnvoyFailed(f"the node {node} does not say what {question['proxy']} does ({about})")
        return found

    def answered(self, session: Session, number: int, text: object) -> None:
        """What a node says to a question: text; anything else is no answer."""
        waiting = session.answers.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(text if isinstance(text, str) else None)

    def connected(self, name: str) -> bool:
        return name in self._sessions

    def forget_the_lost(self) -> None:
        """What machines carry that have been away for longer than the grace goes. To be called from time to time."""
        now = self._clock()
        lost = [
            member
            for member in self._members.values()
            if member.offer is not None and member.away_since is not None and now - member.away_since > self._grace
        ]
        for member in lost:
            self._members[member.name] = replace(member, offer=None, health=None)
        ended = [one for one in self._denied.values() if one.expires <= now]
        for known in (self._certified, self._denied):
            for serial in [serial for serial, one in known.items() if one.expires <= now]:
                del known[serial]
        if lost or ended:
            self._tell()

    def _end_session(self, name: str, why: str) -> None:
        session = self._sessions.pop(name, None)
        if session is not None:
            session.ended.set(why)

    def _tell(self) -> None:
        self._write()
        self.changed()

    def _write(self) -> None:
        content = {
            "members": [_member_to_json(member) for member in self._members.values()],
            "evicted": {name: when.isoformat() for name, when in self._evicted.items()},
            "certified": [_certified_to_json(one) for one in self._certified.values()],
            "denied": [_certified_to_json(one) for one in self._denied.values()],
        }
        self._files.write_private(FILE, json.dumps(content, indent=1).encode())

    def _load(self) -> None:
        """A file that cannot be understood lets nobody in: nodes can join again."""
        raw = self._files.read(FILE)
        with suppress(ValueError, KeyError, TypeError):
            content = json.loads(raw if raw is not None else _NOTHING)
            members = [_member_from_json(entry, self._clock()) for entry in content["members"]]
            evicted = {name: datetime.fromisoformat(when) for name, when in content["evicted"].items()}
            certified, denied = (
                {one.serial: one for one in map(_certified_from_json, content[name])}
                for name in ("certified", "denied")
            )
            self._members = {member.name: member for member in members}
            self._evicted, self._certified, self._denied = evicted, certified, denied


def _same(one: Offer | None, other: Offer) -> bool:
    """One gateway is carried once; sidecars are as many as there are machines."""
    return one is not None and not isinstance(other, SidecarOffer) and one.scope == other.scope


def _member_to_json(member: Member) -> dict[str, Any]:
    return {
        "name": member.name,
        "scope": str(member.scope),
        "joined": member.joined.isoformat(),
        "offer": None if member.offer is None else offer_to_json(member.offer),
        "healthy": None if member.health is None else member.health.healthy,
    }


def _member_from_json(entry: dict[str, Any], now: datetime) -> Member:
    """Away until it connects; what its probe said last holds until it says anew."""
    return Member(
        name=entry["name"],
        scope=Scope.parse(entry["scope"]),
        joined=datetime.fromisoformat(entry["joined"]),
        offer=None if entry["offer"] is None else offer_from_json(entry["offer"]),
        health=None if entry["healthy"] is None else Health(bool(entry["healthy"])),
        away_since=now,
    )


def _certified_to_json(one: Certified) -> dict[str, Any]:
    return {
        "serial": f"{one.serial:x}",
        "node": one.node,
        "identity": one.identity,
        "expires": one.expires.isoformat(),
        "superseded": one.superseded,
    }


def _certified_from_json(entry: dict[str, Any]) -> Certified:
    expires = datetime.fromisoformat(entry["expires"])
    superseded = bool(entry.get("superseded", False))
    return Certified(int(entry["serial"], 16), entry["node"], entry["identity"], expires, superseded)
