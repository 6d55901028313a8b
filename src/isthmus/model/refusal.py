"""What a refusal is told by: a reason with its code, and the signs by which a proxy recognises it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

URN = "urn:isthmus:reason:"
"""``type`` of a problem document (RFC 9457), before the code: an identifier, not an address."""


class Group(Enum):
    """What a refusal is about. All but ``UPSTREAM`` are counted as denied."""

    IDENTITY = "Who the caller is"
    ACCESS = "What the caller may do"
    LIMIT = "How much the caller may do"
    REQUEST = "How the request is written"
    UPSTREAM = "What stands behind the proxy"


@dataclass(frozen=True, slots=True)
class Details:
    """``%RESPONSE_CODE_DETAILS%`` (of TCP: the connection's termination details) is exactly one of these."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DetailsBegin:
    """They begin with one of these."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleNamed:
    """An RBAC filter refused, and the policy that did is called exactly so."""

    name: str


@dataclass(frozen=True, slots=True)
class RuleHolding:
    """An RBAC filter refused, and the policy's name holds this."""

    text: str


@dataclass(frozen=True, slots=True)
class OwnRoute:
    """A route of ours answered by itself: its name and status."""

    name: str
    status: int


@dataclass(frozen=True, slots=True)
class Noted:
    """What a filter left in the dynamic metadata of ``namespace`` under ``key``; ``details``: as it refused.

    ``below``: the way to the value, where that is within an object.
    """

    details: str
    namespace: str
    key: str
    value: str
    below: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WrongPeer:
    """No ALLOW rule matched, and all of them ask for other peers than this one."""


Sign = Details | DetailsBegin | RuleNamed | RuleHolding | OwnRoute | Noted | WrongPeer


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a request was refused.

    ``code`` is public and stays: kebab-case, in access logs, metrics and problem documents. ``status``: of HTTP; None
    where only connections are closed for it. ``about`` is one sentence that may be told to the client, so it says
    nothing of what it would have needed. ``fix``: for whoever runs the mesh. ``signs``: any of them will do; none for
    what only a decision service says, in its dynamic metadata.
    """

    code: str
    group: Group
    status: int | None
    about: str
    fix: str
    signs: tuple[Sign, ...] = ()
