"""``outlierDetection``: when an endpoint that fails is left alone for a while."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from isthmus.config.decode import Reader, boolean, fail, later, list_of, optional, record
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.destination_rule.amount import PERCENT, whole
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.model.traffic_policy import OutlierDetection

_DEFAULT = OutlierDetection()


@dataclass(frozen=True, slots=True)
class _Outlier:
    at: Node
    consecutive5xx_errors: int | None
    consecutive_gateway_errors: int | None
    split_external_local_origin_errors: bool
    consecutive_local_origin_failures: int | None
    interval: timedelta | None
    base_ejection_time: timedelta | None
    max_ejection_percent: int
    min_health_percent: int
    outlier_detection_http_error_codes: tuple[int, ...]


def _outlier(written: _Outlier, node: Node, report: Report) -> OutlierDetection:
    if written.consecutive_local_origin_failures is not None and not written.split_external_local_origin_errors:
        at = node.at("consecutiveLocalOriginFailures")
        raise fail(report, at, "these are counted only with splitExternalLocalOriginErrors: true")
    return OutlierDetection(
        consecutive_5xx=written.consecutive5xx_errors,
        consecutive_gateway_errors=written.consecutive_gateway_errors,
        split_local_origin=written.split_external_local_origin_errors,
        consecutive_local_origin=written.consecutive_local_origin_failures,
        interval=written.interval,
        base_ejection_time=written.base_ejection_time,
        max_ejection_percent=written.max_ejection_percent,
        min_health_percent=written.min_health_percent,
        error_codes=written.outlier_detection_http_error_codes,
    )


OUTLIER_DETECTION: Reader[OutlierDetection] = converted(
    record(
        _Outlier,
        optional("consecutive5xxErrors", whole(0), note="by default 5; 0: not counted"),
        optional("consecutiveGatewayErrors", whole(0), note="502, 503 and 504; not counted by default"),
        optional("splitExternalLocalOriginErrors", boolean, False),
        optional("consecutiveLocalOriginFailures", whole(1), note="by default 5; connects, TLS handshakes, timeouts"),
        optional("interval", positive_duration, note="between the looks for who may return; by default 10s"),
        optional("baseEjectionTime", positive_duration, note="times the number of ejections so far; by default 30s"),
        optional("maxEjectionPercent", PERCENT, _DEFAULT.max_ejection_percent, note="rounded down; by default 10"),
        optional("minHealthPercent", PERCENT, _DEFAULT.min_health_percent),
        optional("outlierDetectionHttpErrorCodes", list_of(whole(400, 599)), (), note="instead of 500 to 599"),
        later("consecutiveErrors", "without effect in Istio, too; use consecutive5xxErrors"),
    ),
    _outlier,
)
