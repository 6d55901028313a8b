"""One-use join tokens: how the agent of a machine proves, once, which node it is."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from isthmus.errors import NotEnrolled
from isthmus.identity.spiffe_id import check_segment

TOKEN_TTL = timedelta(seconds=600)
TOKEN_BYTES = 32
TOKENS_FILE = "join-tokens.json"
_NO_USE = "the join token is unknown, used or expired"


class NotAssigned(NotEnrolled):
    """A node that is known, and asks for what is not its own."""


class PrivateFiles(Protocol):
    """The state directory, as far as tokens need it."""

    def read(self, name: str) -> bytes | None: ...
    def write_private(self, name: str, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that was given out. ``scope``: what the node may be; empty: the control plane's own machine."""

    digest: bytes = field(repr=False)
    node: str
    expires: datetime
    scope: str = ""
    used: datetime | None = None


@dataclass(slots=True)
class JoinTokens:
    """The tokens given out, as SHA-256 only; a used one is remembered until it would have ended.

    ``files``: where they outlive the process; None: a restart forgets them.
    """

    files: PrivateFiles | None = None
    _issued: list[Issued] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.files is not None:
            self._issued.extend(_read(self.files.read(TOKENS_FILE)))

    def issue(self, node: str, now: datetime, ttl: timedelta = TOKEN_TTL, scope: str = "") -> str:
        """A new token (256 bits, URL-safe text) for the node's name. Raises SpiffeIdInvalid: not a node's name."""
        check_segment(node)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._forget_expired(now)
        self._issued.append(Issued(_digest(token), node, now + ttl, scope))
        self._write()
        return token

    def find(self, token: str, now: datetime) -> Issued:
        """What ``token`` was given out for; it can still be used. Raises NotEnrolled, with the reason."""
        self._forget_expired(now)
        digest, found = _digest(token), None
        # All of them, each in constant time: how long it takes tells nothing about a token.
        for issued in self._issued:
            if hmac.compare_digest(issued.digest, digest):
                found = issued
        if found is None:
            raise NotEnrolled(_NO_USE)
        if found.used is not None:
            # To the machine's own agent, which simply asks for the next one, it is like any that does not work.
            which = f"the join token of node {found.node} was used already, at {found.used:%H:%M:%S} UTC"
            raise NotEnrolled(f"{which}: it is for one use" if found.scope else _NO_USE)
        return found

    def redeem(self, token: str, now: datetime) -> str:
        """The name of the node that ``token`` was issued to; the token is used up. Raises NotEnrolled."""
        found = self.find(token, now)
        self._issued[self._issued.index(found)] = replace(found, used=now)
        # Written before it is granted: a crash must not give a token back.
        self._write()
        return found.node

    def forget(self, node: str) -> None:
        """The tokens of a node that is not wanted any more are worth nothing."""
        self._issued[:] = [issued for issued in self._issued if issued.node != node]
        self._write()

    def waiting(self, now: datetime) -> tuple[Issued, ...]:
        """Those that can still be used."""
        self._forget_expired(now)
        return tuple(issued for issued in self._issued if issued.used is None)

    def _forget_expired(self, now: datetime) -> None:
        self._issued[:] = [issued for issued in self._issued if now < issued.expires]

    def _write(self) -> None:
        if self.files is None:
            return
        entries = [
            {
                "sha256": issued.digest.hex(),
                "node": issued.node,
                "expires": issued.expires.isoformat(),
                "scope": issued.scope,
                "used": issued.used.isoformat() if issued.used is not None else None,
            }
            for issued in self._issued
        ]
        self.files.write_private(TOKENS_FILE, json.dumps(entries, indent=1).encode())


def _read(raw: bytes | None) -> list[Issued]:
    """A file that cannot be understood holds no token: new ones can be had."""
    try:
        return [_entry(entry) for entry in (json.loads(raw) if raw is not None else ())]
    except (ValueError, KeyError, TypeError):
        return []


def _entry(entry: dict[str, Any]) -> Issued:
    return Issued(
        bytes.fromhex(entry["sha256"]),
        entry["node"],
        datetime.fromisoformat(entry["expires"]),
        entry["scope"],
        None if entry["used"] is None else datetime.fromisoformat(entry["used"]),
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
