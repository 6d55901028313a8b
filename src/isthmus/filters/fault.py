"""Delays and aborts on purpose, for a share of a route's requests.

The filter does nothing on the chain; what it shall do stands on the routes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import fault_common_v3, fault_v3, type_v3
from isthmus.filters.filter import Filter, http_filter

NAME = "envoy.filters.http.fault"

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Fault:
    """What to do to a request. Delay and abort are drawn independently, the delay first.

    Percentages are 0 to 100, exact to a ten-thousandth. ``abort_status`` is an HTTP status (200 to 599),
    ``abort_grpc_status`` a gRPC one; at most one of them.
    """

    delay: timedelta | None = None
    delay_percent: float = 100.0
    abort_status: int | None = None
    abort_grpc_status: int | None = None
    abort_percent: float = 100.0


def _share(percent: float) -> Any:
    return type_v3.FractionalPercent(
        numerator=round(percent * _MILLION / 100), denominator=type_v3.FractionalPercent.MILLION
    )


def build_route(config: Fault) -> Any:
    """The HTTPFault of a route. Source: envoy/extensions/filters/http/fault/v3/fault.proto."""
    # Without it each downstream cluster name that a client claims makes a new statistic.
    fault = fault_v3.HTTPFault(disable_downstream_cluster_stats=True)
    if config.delay is not None:
        fault.delay.CopyFrom(
            fault_common_v3.FaultDelay(fixed_delay=duration(config.delay), percentage=_share(config.delay_percent))
        )
    if config.abort_status is not None:
        fault.abort.CopyFrom(
            fault_v3.FaultAbort(http_status=config.abort_status, percentage=_share(config.abort_percent))
        )
    elif config.abort_grpc_status is not None:
        fault.abort.CopyFrom(
            fault_v3.FaultAbort(grpc_status=config.abort_grpc_status, percentage=_share(config.abort_percent))
        )
    return fault


def _build(config: Fault) -> tuple[Any, ...]:
    return (http_filter(NAME, build_route(config)),)


FAULT = Filter(NAME, Fault, _build, build_route)
