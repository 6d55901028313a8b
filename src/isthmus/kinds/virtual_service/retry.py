"""``http[].retries``: what is tried again, how often and after how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from isthmus.config.decode import Reader, boolean, checked, fail, integer, later, optional, record, text
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.kinds.shape.host import hint
from isthmus.model.route import Retry

_CONDITIONS = frozenset(
    (
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "envoy-ratelimited",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    )
)
"""Envoy's retry conditions: x-envoy-retry-on and x-envoy-retry-grpc-on."""


@dataclass(frozen=True, slots=True)
class _RetrySpec:
    at: Node
    attempts: int
    per_try_timeout: timedelta | None
    retry_on: tuple[tuple[str, ...], tuple[int, ...]] | None
    backoff: timedelta | None
    retry_ignore_previous_hosts: bool | None


def _retry_on(written: str, node: Node, report: Report) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The conditions and the status codes of a list with commas."""
    conditions, codes = [], []
    for part in (part.strip() for part in written.split(",")):
        if part.isdecimal() and 100 <= int(part) <= 599:
            codes.append(int(part))
        elif part in _CONDITIONS:
            conditions.append(part)
        else:
            raise fail(report, node, f'"{part}" is not a condition for a retry{hint(part, _CONDITIONS)}')
    if codes and "retriable-status-codes" not in conditions:
        conditions.append("retriable-status-codes")
    return tuple(conditions), tuple(codes)


def _retry(written: _RetrySpec, node: Node, report: Report) -> Retry:
    others = (written.per_try_timeout, written.retry_on, written.backoff, written.retry_ignore_previous_hosts)
    if written.attempts == 0 and any(other is not None for other in others):
        raise fail(report, node, "attempts is 0 or not given, so nothing is retried: the other fields have no effect")
    default = Retry()
    conditions, codes = written.retry_on or (default.retry_on, default.status_codes)
    return Retry(
        written.attempts,
        conditions,
        codes,
        written.per_try_timeout,
        written.backoff,
        written.retry_ignore_previous_hosts,
    )


RETRY: Reader[Retry] = converted(
    record(
        _RetrySpec,
        optional("attempts", checked(integer, lambda value: "attempts are not negative" if value < 0 else None), 0),
        optional("perTryTimeout", positive_duration),
        optional("retryOn", converted(text, _retry_on)),
        optional("backoff", positive_duration),
        optional("retryIgnorePreviousHosts", boolean),
        later("retryRemoteLocalities", "every endpoint has one and the same priority"),
    ),
    _retry,
)
