"""Limits as values."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from isthmus.diag import Origin, Ref, Source
from isthmus.model.limit import Concurrency, Key, KeyKind, Limit, LimitScope, Rate

ORIGIN = Origin(Ref("RateLimitPolicy", "shop", "p"), Source("shop.yaml", 1, 1))
EVERY_KEY = (
    Key(KeyKind.ADDRESS),
    Key(KeyKind.CLAIM, "sub"),
    Key(KeyKind.CONSUMER),
    Key(KeyKind.PLAN),
    Key(KeyKind.ROUTE),
    Key(KeyKind.HEADER, "x-tenant"),
)


def local(name: str = "a", **more: Any) -> Limit:
    return Limit(name, Rate(3, timedelta(minutes=1), 5), ORIGIN, **more)


def counted(name: str = "a", **more: Any) -> Limit:
    return local(name, scope=LimitScope.GLOBAL, **more)


def slots(name: str = "s", **more: Any) -> Limit:
    return Limit(name, Concurrency(2, timedelta(minutes=1)), ORIGIN, scope=LimitScope.GLOBAL, **more)
