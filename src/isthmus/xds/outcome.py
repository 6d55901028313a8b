"""Whether a request went well, told by access log filters that cost next to nothing: CEL of any size costs 8 µs.

Well: a status of HTTP from 200 to 299, and of gRPC, OK. A refusal is never so: to a gRPC client, whose HTTP status is
always 200, it is a status of gRPC.
"""

from __future__ import annotations

from typing import Any

from isthmus.envoy_api.packages import accesslog_v3, core_v3, matcher_v3, route_v3

_Filter = accesslog_v3.AccessLogFilter
_COMPARED = "isthmus.access_log"
"""The runtime key that Envoy wants for a number; nobody sets it."""


def went_well() -> Any:
    answered = _both(_status("GE", 200), _status("LE", 299))
    return _both(answered, _Filter(or_filter=accesslog_v3.OrFilter(filters=[of_grpc(invert=True), _ok()])))


def went_otherwise() -> Any:
    """Everything else, a request that ended without a status among it."""
    refused = _both(of_grpc(), _ok(exclude=True))
    return _Filter(or_filter=accesslog_v3.OrFilter(filters=[_status("LE", 199), _status("GE", 300), refused]))


def _both(one: Any, other: Any) -> Any:
    return _Filter(and_filter=accesslog_v3.AndFilter(filters=[one, other]))


def _status(comparison: str, value: int) -> Any:
    """Of HTTP; 0 where there is none."""
    compared = accesslog_v3.ComparisonFilter(
        op=accesslog_v3.ComparisonFilter.Op.Value(comparison),
        value=core_v3.RuntimeUInt32(default_value=value, runtime_key=f"{_COMPARED}.{comparison.lower()}_{value}"),
    )
    return _Filter(status_code_filter=accesslog_v3.StatusCodeFilter(comparison=compared))


def of_grpc(*, invert: bool = False) -> Any:
    """A request of gRPC; with ``invert``, any other."""
    header = route_v3.HeaderMatcher(
        name="content-type",
        string_match=matcher_v3.StringMatcher(prefix="application/grpc"),
        invert_match=invert,
        # Else what has no such header would be neither.
        treat_missing_header_as_empty=True,
    )
    return _Filter(header_filter=accesslog_v3.HeaderFilter(header=header))


def _ok(*, exclude: bool = False) -> Any:
    status = accesslog_v3.GrpcStatusFilter
    return _Filter(grpc_status_filter=status(statuses=[status.Status.Value("OK")], exclude=exclude))
