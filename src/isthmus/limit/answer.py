"""What the limit service says, in Envoy's rate limit protocol: pass or not, with which headers, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.envoy_api.packages import core_v3, ratelimit_service_v3
from isthmus.limit.bucket import Verdict
from isthmus.limit.count import Ask
from isthmus.model.limit import Concurrency, Period, Quota, Rate

_RESPONSE = ratelimit_service_v3.RateLimitResponse
_DAYS = {Period.DAY: 1, Period.MONTH: 30}
_DAY_SECONDS = 86400

RATE_LIMITED, QUOTA_EXHAUSTED, CONCURRENCY_LIMITED = "rate-limited", "quota-exhausted", "concurrency-limited"


@dataclass(frozen=True, slots=True)
class Counted:
    ask: Ask
    verdict: Verdict

    @property
    def refuses(self) -> bool:
        return not self.verdict.allowed and not self.ask.definition.shadow


def answer(counted: Sequence[Counted], lease: tuple[str, str] | None = None) -> Any:
    """A RateLimitResponse. ``lease``: its key in the metadata, and its name."""
    refusing = next((one for one in counted if one.refuses), None)
    response = _RESPONSE(overall_code=_RESPONSE.OK if refusing is None else _RESPONSE.OVER_LIMIT)
    told = refusing if refusing is not None else _tightest(counted)
    if told is not None and told.ask.definition.headers:
        headers = _headers(told, refused=refusing is not None)
        response.response_headers_to_add.extend(core_v3.HeaderValue(key=key, value=value) for key, value in headers)
    fields: dict[str, str] = {}
    if refusing is not None:
        fields = {"reason": _reason(refusing), "limit": refusing.ask.definition.id}
    elif lease is not None:
        fields = {lease[0]: lease[1]}
    shadows = [one.ask.definition.id for one in counted if not one.verdict.allowed and one.ask.definition.shadow]
    if shadows:
        fields["shadow"] = ",".join(shadows)
    if fields:
        response.dynamic_metadata.update(fields)
    return response


def _reason(refusing: Counted) -> str:
    match refusing.ask.definition.amount:
        case Rate():
            return RATE_LIMITED
        case Quota():
            return QUOTA_EXHAUSTED
        case Concurrency():
            return CONCURRENCY_LIMITED


def _tightest(counted: Sequence[Counted]) -> Counted | None:
    """Of those that clients are told of, the one of which the least is left."""
    shown = [
        one
        for one in counted
        if one.ask.definition.headers
        and not one.ask.definition.shadow
        and not isinstance(one.ask.definition.amount, Concurrency)
    ]
    return min(shown, key=lambda one: one.verdict.remaining, default=None)


def _headers(one: Counted, *, refused: bool) -> list[tuple[str, str]]:
    """draft-ietf-httpapi-ratelimit-headers-03; of concurrency it knows nothing."""
    reset = math.ceil(one.verdict.reset)
    match one.ask.definition.amount:
        case Rate(requests, per, burst):
            limit = f"{burst}, {requests};w={max(1, round(per.total_seconds()))}"
        case Quota(requests, period):
            limit = f"{requests}, {requests};w={_DAYS[period] * _DAY_SECONDS}"
        case Concurrency():
            return [("retry-after", str(max(1, reset)))] if refused else []
    told = [("ratelimit-limit", limit), ("ratelimit-remaining", str(one.verdict.remaining))]
    told.append(("ratelimit-reset", str(reset)))
    if refused:
        told.append(("retry-after", str(max(1, reset))))
    return told
