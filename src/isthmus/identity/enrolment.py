"""One-use join tokens: how the agent of a machine proves, once, which node it is."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from isthmus.errors import NotEnrolled
from isthmus.identity.spiffe_id import check_segment

TOKEN_TTL = timedelta(seconds=600)
TOKEN_BYTES = 32


class NotAssigned(NotEnrolled):
    """A node that is known, and asks for what is not its own."""


@dataclass(frozen=True, slots=True)
class _Issued:
    digest: bytes
    node: str
    expires: datetime


@dataclass(slots=True)
class JoinTokens:
    """The tokens given out and not yet used, kept in memory as SHA-256 only: a restart forgets them."""

    _issued: list[_Issued] = field(default_factory=list, init=False, repr=False)

    def issue(self, node: str, now: datetime, ttl: timedelta = TOKEN_TTL) -> str:
        """A new token (256 bits, URL-safe text) for the node's name. Raises SpiffeIdInvalid: not a node's name."""
        check_segment(node)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._forget_expired(now)
        self._issued.append(_Issued(_digest(token), node, now + ttl))
        return token

    def redeem(self, token: str, now: datetime) -> str:
        """The name of the node that ``token`` was issued to; the token is used up. Raises NotEnrolled."""
        self._forget_expired(now)
        digest, found = _digest(token), None
        # All of them, each in constant time: how long it takes tells nothing about a token.
        for issued in self._issued:
            if hmac.compare_digest(issued.digest, digest):
                found = issued
        if found is None:
            raise NotEnrolled("the join token is unknown, used or expired")
        self._issued.remove(found)
        return found.node

    def _forget_expired(self, now: datetime) -> None:
        self._issued[:] = [issued for issued in self._issued if now < issued.expires]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
