"""What opaque tokens are worth: asked of who gave them (RFC 7662), and remembered for a while.

Nothing here opens a connection: :mod:`isthmus.decide.client.fetch` does. Tokens are kept as digests alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from isthmus.decide.client.kept import Kept
from isthmus.decide.client.outcome import Refused
from isthmus.errors import IntrospectionUnavailable

logger = logging.getLogger(__name__)

BEARER: Final = "Bearer"
INACTIVE: Final = Refused("token-inactive", 401, BEARER)
UNAVAILABLE: Final = Refused("introspection-unavailable", 503)

_MOST_KEPT = 50_000
_MOST_INACTIVE_KEPT = 10_000
_MOST_WAITING = 256
"""Questions of one provider under way: whoever sends made-up tokens must not make us its flood."""
_INACTIVE_FOR = timedelta(seconds=5)
_SKEW = timedelta(seconds=60)
_LONGEST_TOKEN = 16 * 1024
_TOLD_AGAIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Provider:
    """Who is asked. ``ca``: PEM, whom its certificate must come from; None: the system's."""

    issuer: str
    endpoint: str
    client_id: str
    client_secret: str = field(repr=False)
    client_auth: str
    audiences: tuple[str, ...]
    cache_for: timedelta
    timeout: timedelta
    ca: str | None = field(default=None, repr=False)


class Asker(Protocol):
    async def introspect(self, provider: Provider, token: str) -> bytes:
        """The body of the provider's answer. Raises IntrospectionUnavailable."""


Claims = Mapping[str, Any]


def read_providers(settings: Mapping[str, Any]) -> dict[str, Provider]:
    """Of the process's settings. One whose secret is missing is left out: nobody can ask it."""
    return {
        key: Provider(
            issuer=one["issuer"],
            endpoint=one["endpoint"],
            client_id=one["clientId"],
            client_secret=one["clientSecret"],
            client_auth=one["clientAuth"],
            audiences=tuple(one["audiences"]),
            cache_for=timedelta(seconds=one["cacheSeconds"]),
            timeout=timedelta(seconds=one["timeoutSeconds"]),
            ca=one.get("ca"),
        )
        for key, one in settings.items()
        if one.get("clientSecret") is not None and not one.get("caMissing")
    }


class Introspection:
    """Asks, once for all who want to know the same at the same time, and keeps the answers."""

    def __init__(self, asker: Asker, providers: Mapping[str, Provider]) -> None:
        self._asker = asker
        self._providers = dict(providers)
        self._active: Kept[Claims] = Kept(_MOST_KEPT)
        # Apart, so that made-up tokens push no good one out.
        self._inactive: Kept[bool] = Kept(_MOST_INACTIVE_KEPT)
        self._waiting: dict[bytes, asyncio.Task[Claims | Refused]] = {}
        self._asked: Counter[str] = Counter()
        """Of each provider: whoever floods one, or one that is slow, must not close the others."""
        self._told: dict[str, datetime] = {}

    def learn(self, providers: Mapping[str, Provider]) -> None:
        """Answers of providers that are no longer the same are forgotten."""
        if self._providers != dict(providers):
            self._providers = dict(providers)
            self._active.clear()
            self._inactive.clear()

    async def claims(self, key: str, token: str, now: datetime) -> Claims | Refused:
        """What the provider ``key`` says of ``token``, or why it is refused."""
        provider = self._providers.get(key)
        if provider is None:
            return UNAVAILABLE
        if not token or len(token) > _LONGEST_TOKEN:
            return INACTIVE
        digest = hashlib.sha256(f"{key} {token}".encode()).digest()
        kept = self._active.get(digest, now)
        if kept is not None:
            return kept
        if self._inactive.get(digest, now) is not None:
            return INACTIVE
        asked = self._waiting.get(digest)
        if asked is None:
            if self._asked[key] >= _MOST_WAITING:
                return UNAVAILABLE
            self._asked[key] += 1
            asked = asyncio.create_task(self._ask(provider, token, digest, now))
            self._waiting[digest] = asked
            asked.add_done_callback(lambda _: self._answered(key, digest))
        # Who gives up waiting does not take the answer from the others.
        return await asyncio.shield(asked)

    def _answered(self, key: str, digest: bytes) -> None:
        self._waiting.pop(digest, None)
        self._asked[key] -= 1
        if not self._asked[key]:
            del self._asked[key]

    async def _ask(self, provider: Provider, token: str, digest: bytes, now: datetime) -> Claims | Refused:
        try:
            found = read_answer(await self._asker.introspect(provider, token), provider, now)
        except IntrospectionUnavailable as fault:
            if now - self._told.get(provider.endpoint, datetime.min.replace(tzinfo=UTC)) > _TOLD_AGAIN:
                self._told[provider.endpoint] = now
                logger.warning("introspection at %s: %s", provider.endpoint, fault)
            return UNAVAILABLE
        if isinstance(found, Refused):
            self._inactive.put(digest, True, now + min(provider.cache_for, _INACTIVE_FOR))
            return found
        ends = _time(found.get("exp"))
        until = now + provider.cache_for
        self._active.put(digest, found, until if ends is None else min(until, ends))
        return found


def read_answer(body: bytes, provider: Provider, now: datetime) -> Claims | Refused:
    """The claims of an active token, its scopes in a list. Raises IntrospectionUnavailable: that is no answer."""
    try:
        answer = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise IntrospectionUnavailable("the answer is not JSON") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
        raise IntrospectionUnavailable('the answer does not say "active": true or false (RFC 7662, section 2.2)')
    if not answer["active"]:
        return INACTIVE
    if answer.get("iss", provider.issuer) != provider.issuer:
        return INACTIVE
    for name, wrong in (("exp", _ended), ("nbf", _early)):
        if name in answer and answer[name] is not None and wrong(answer[name], now):
            return INACTIVE
    audience = answer.get("aud", ())
    named = [audience] if isinstance(audience, str) else audience if isinstance(audience, Sequence) else ()
    if provider.audiences and not any(one in provider.audiences for one in named):
        return Refused("jwt-audience-invalid", 403)
    claims = {name: value for name, value in answer.items() if name != "active"}
    if isinstance(claims.get("scope"), str):
        claims["scope"] = claims["scope"].split()
    return claims


def _no_number(written: str) -> None:
    raise ValueError(written)


def _time(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _ended(value: object, now: datetime) -> bool:
    ends = _time(value)
    return ends is None or ends <= now - _SKEW


def _early(value: object, now: datetime) -> bool:
    begins = _time(value)
    return begins is None or begins > now + _SKEW
