"""RateLimitPolicy: how often, how much and how many at once; and what a bucket is counted by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from isthmus.diag import Origin
from isthmus.model.attachment import Attachment


class KeyKind(Enum):
    """What gets a bucket of its own."""

    ADDRESS = "address"
    """Of the client; of IPv6 the network of 64 bits, which one client has all of."""
    CLAIM = "claim"
    """Of the verified token, a claim of the first level whose value is a string."""
    CONSUMER = "consumer"
    TENANT = "tenant"
    """The namespace of the consumer."""
    PLAN = "plan"
    """Of the consumer."""
    HEADER = "header"
    ROUTE = "route"


VERIFIED = frozenset({KeyKind.CLAIM, KeyKind.CONSUMER, KeyKind.TENANT, KeyKind.PLAN})
"""What is known only once somebody has been verified."""
_CHOSEN = frozenset({KeyKind.ADDRESS, KeyKind.HEADER})
"""Of what one client may have as many as it likes: headers it writes, and of IPv6 it may have many networks."""


@dataclass(frozen=True, slots=True)
class Key:
    """``name``: of the claim or the header."""

    kind: KeyKind
    name: str = ""


class Period(Enum):
    """Of a quota: a calendar day or month in UTC."""

    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: ``burst`` tokens at most, ``requests`` of them back in ``per``, evenly."""

    requests: int
    per: timedelta
    burst: int


@dataclass(frozen=True, slots=True)
class Quota:
    """So many in one period, which begins anew for everybody at once."""

    requests: int
    period: Period


@dataclass(frozen=True, slots=True)
class Concurrency:
    """So many under way. One that takes longer than ``longest`` counts no more: its proxy may be gone."""

    most: int
    longest: timedelta


class LimitScope(Enum):
    LOCAL = "LOCAL"
    """Each proxy counts by itself."""
    GLOBAL = "GLOBAL"
    """The limit service counts."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``by`` empty: all together. ``methods``, ``plans``: which requests it is about; empty: all.

    A limit for several plans counts each of them by itself.
    """

    name: str
    amount: Rate | Quota | Concurrency
    origin: Origin
    by: tuple[Key, ...] = ()
    methods: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()
    scope: LimitScope = LimitScope.LOCAL
    shadow: bool = False
    fail_open: bool = False
    """GLOBAL: whether requests pass while nobody can count them."""

    @property
    def is_global(self) -> bool:
        return self.scope is LimitScope.GLOBAL

    @property
    def early(self) -> bool:
        """Whether it needs nobody to be verified."""
        return not self.plans and not any(key.kind in VERIFIED for key in self.by)

    @property
    def clients_choose(self) -> bool:
        """Whether one client can have as many buckets of it as it likes."""
        return any(key.kind in _CHOSEN for key in self.by)


@dataclass(frozen=True, slots=True)
class RateLimitPolicy:
    """``store``: the Secret (``namespace/name``) with the URL of the Redis that counts; None: each machine counts."""

    name: str
    namespace: str
    attachment: Attachment
    limits: tuple[Limit, ...]
    origin: Origin
    headers: bool = True
    """Whether answers tell of the limits."""
    store: str | None = None

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    def id_of(self, limit: Limit) -> str:
        """The limit's name in proxies, logs and stores."""
        return f"{self.key}/{limit.name}"

    def of(self, scope: LimitScope) -> Iterator[Limit]:
        return (limit for limit in self.limits if limit.scope is scope)
