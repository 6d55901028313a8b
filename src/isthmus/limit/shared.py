"""Buckets and quotas in a Redis that several machines share. One script counts all that a request asks, at once.

Redis' own clock is everybody's. Every answer has its time: a Redis that is slow, or gone, is an error soon, and after
some in a row it is not asked for a moment.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from datetime import timedelta

from redis.asyncio import Redis
from redis.exceptions import RedisError

from isthmus.limit import bucket, calendar
from isthmus.limit.bucket import Verdict
from isthmus.limit.count import Ask, Now, Uncounted
from isthmus.model.limit import Quota, Rate

_TIMEOUT = timedelta(milliseconds=250)
_PAUSE = timedelta(milliseconds=500)
_FAILURES = 3
"""In a row: then it is not asked until the pause is over."""
_MICRO = 1e6
_KEPT_LONGER_SECONDS = 3600
_SCRIPT = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local answers, new, refused = {}, {}, false
for i = 1, #KEYS do
  local a = (i - 1) * 5
  local kind, most, token, shadow = ARGV[a + 1], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), ARGV[a + 4]
  local held = tonumber(redis.call('GET', KEYS[i]) or '0')
  local after, allowed
  if kind == 'rate' then
    after = math.max(held, now) + token
    allowed = after - now <= token * most + 0.5
  else
    after = held + 1
    allowed = after <= most
  end
  if allowed then new[i] = after elseif shadow == '0' then refused = true end
  answers[i] = {allowed and 1 or 0, held}
end
for i = 1, #KEYS do
  local a, after = (i - 1) * 5, new[i]
  if after and not refused then
    answers[i][2] = after
    if ARGV[a + 1] == 'rate' then
      redis.call('SET', KEYS[i], string.format('%.3f', after), 'PX', math.ceil((after - now) / 1000) + 1)
    else
      redis.call('SET', KEYS[i], string.format('%d', after), 'EX', ARGV[a + 5])
    end
  end
  if ARGV[a + 1] == 'rate' then answers[i][2] = answers[i][2] - now end
  answers[i][2] = string.format('%.3f', answers[i][2])
end
return answers
"""
"""Per key: kind, how many, microseconds of a token, whether a shadow, seconds until it may be forgotten."""


class SharedCounter:
    """``clock``: seconds. ``url`` may hold a password: no message repeats it."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        seconds = _TIMEOUT.total_seconds()
        # Tried again by who asks, if at all: here it would only take longer.
        self._redis = Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=None)
        self._script = self._redis.register_script(_SCRIPT)
        self._failures = 0
        self._again_at = 0.0

    async def take(self, asks: Sequence[Ask], now: Now) -> tuple[Verdict, ...]:
        """As :class:`Counter` says."""
        if self._failures >= _FAILURES and self._clock() < self._again_at:
            raise Uncounted("the Redis did not answer lately")
        keys = [_key(ask, now) for ask in asks]
        told = [value for ask in asks for value in _told(ask, now)]
        try:
            async with asyncio.timeout(_TIMEOUT.total_seconds()):
                answers = await self._script(keys, told)
        except (RedisError, OSError, TimeoutError) as failed:
            self._failures += 1
            self._again_at = self._clock() + _PAUSE.total_seconds()
            raise Uncounted(f"the Redis did not answer: {type(failed).__name__}") from None
        self._failures = 0
        return tuple(_verdict(ask, now, *answer) for ask, answer in zip(asks, answers, strict=True))

    async def close(self) -> None:
        await self._redis.aclose()


def _key(ask: Ask, now: Now) -> str:
    amount = ask.definition.amount
    period = f":{calendar.span_of(amount.period, now.utc).name}" if isinstance(amount, Quota) else ""
    return f"isthmus:limit:{ask.bucket}{period}"


def _told(ask: Ask, now: Now) -> tuple[str | float | int, ...]:
    shadow = int(ask.definition.shadow)
    match ask.definition.amount:
        case Rate() as rate:
            return "rate", rate.burst, bucket.interval(rate) * _MICRO, shadow, 0
        case Quota() as quota:
            left = (calendar.span_of(quota.period, now.utc).end - now.utc).total_seconds()
            return "quota", quota.requests, 0, shadow, math.ceil(left) + _KEPT_LONGER_SECONDS
        case other:
            raise AssertionError(f"{other} is leased, not counted")


def _verdict(ask: Ask, now: Now, allowed: int, held: bytes) -> Verdict:
    amount = ask.definition.amount
    if isinstance(amount, Quota):
        return calendar.verdict(int(float(held)), amount, now.utc, allowed=bool(allowed))
    assert isinstance(amount, Rate)
    return bucket.verdict(float(held) / _MICRO, amount, allowed=bool(allowed))
