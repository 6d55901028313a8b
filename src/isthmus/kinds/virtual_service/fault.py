"""``http[].fault``: delays and aborts on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from isthmus.config.decode import Reader, checked, fail, integer, optional, record, required, text
from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity
from isthmus.filters.fault import Fault
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.kinds.shape.host import hint
from isthmus.kinds.shape.support import refused
from isthmus.kinds.virtual_service.percent import PERCENTAGE, Percent, percent_problem

NO_SHARE = Code(
    "ISM2122",
    Severity.WARNING,
    "A fault for no request",
    "the {what} has no percentage: it is done to no request, as in Istio",
    what="A delay or an abort without a percentage, or with 0.",
    why="Istio takes a missing percentage as 0, so the fault never happens.",
    example="fault:\n  abort: {httpStatus: 503}",
    fix="Give it a share: percentage: {value: 0.5}, or 100 for every request.",
)

_GRPC_STATUSES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""By number (google.rpc.Code)."""


@dataclass(frozen=True, slots=True)
class _Delay:
    at: Node
    fixed_delay: timedelta
    percentage: Percent | None
    percent: int | None


@dataclass(frozen=True, slots=True)
class _Abort:
    at: Node
    http_status: int | None
    grpc_status: int | None
    percentage: Percent | None


@dataclass(frozen=True, slots=True)
class _Fault:
    at: Node
    delay: _Delay | None
    abort: _Abort | None


def _status_problem(status: int) -> str | None:
    return None if 200 <= status <= 599 else f"{status} is not an HTTP status that can be answered (200 to 599)"


def _grpc_status(written: str, node: Node, report: Report) -> int:
    if written.isdecimal() and int(written) < len(_GRPC_STATUSES):
        return int(written)
    if written not in _GRPC_STATUSES:
        raise fail(report, node, f'"{written}" is not a gRPC status{hint(written, _GRPC_STATUSES)}')
    return _GRPC_STATUSES.index(written)


def _fault(written: _Fault, node: Node, report: Report) -> Fault:
    delay, abort = written.delay, written.abort
    if delay is None and abort is None:
        raise fail(report, node, "a fault needs a delay or an abort")
    if abort is not None and (abort.http_status is None) == (abort.grpc_status is None):
        raise fail(report, abort.at, "an abort needs either httpStatus or grpcStatus")
    delay_percent = _share(delay.percentage, delay.percent) if delay is not None else 0.0
    abort_percent = _share(abort.percentage, None) if abort is not None else 0.0
    if delay is not None and not delay_percent:
        report.add(NO_SHARE, delay.at, what="delay")
    if abort is not None and not abort_percent:
        report.add(NO_SHARE, abort.at, what="abort")
    return Fault(
        delay=delay.fixed_delay if delay is not None else None,
        delay_percent=delay_percent,
        abort_status=abort.http_status if abort is not None else None,
        abort_grpc_status=abort.grpc_status if abort is not None else None,
        abort_percent=abort_percent,
    )


def _share(percentage: Percent | None, percent: int | None) -> float:
    return percentage.value if percentage is not None else float(percent or 0)


FAULT: Reader[Fault] = converted(
    record(
        _Fault,
        optional(
            "delay",
            record(
                _Delay,
                required("fixedDelay", positive_duration),
                optional("percentage", PERCENTAGE),
                optional("percent", checked(integer, percent_problem), note="deprecated by Istio: percentage"),
                refused("exponentialDelay", "there is no delay"),
            ),
        ),
        optional(
            "abort",
            record(
                _Abort,
                optional("httpStatus", checked(integer, _status_problem)),
                optional("grpcStatus", converted(text, _grpc_status)),
                optional("percentage", PERCENTAGE),
                refused("http2Error", "there is no abort"),
            ),
        ),
    ),
    _fault,
)
