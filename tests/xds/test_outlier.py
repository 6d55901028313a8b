from __future__ import annotations

from datetime import timedelta

from isthmus.model.traffic_policy import OutlierDetection
from isthmus.xds.outlier import build_error_matcher, build_outlier_detection


def test_only_consecutive_failures_count() -> None:
    built = build_outlier_detection(OutlierDetection())
    assert built.enforcing_success_rate.value == 0
    assert built.HasField("enforcing_success_rate")
    assert built.HasField("enforcing_local_origin_success_rate")
    assert built.max_ejection_percent.value == 10
    assert not built.HasField("consecutive_5xx")
    assert not built.HasField("consecutive_gateway_failure")


def test_everything_that_is_written() -> None:
    written = OutlierDetection(
        consecutive_5xx=5,
        consecutive_gateway_errors=4,
        split_local_origin=True,
        consecutive_local_origin=3,
        interval=timedelta(seconds=10),
        base_ejection_time=timedelta(seconds=30),
        max_ejection_percent=50,
    )
    built = build_outlier_detection(written)
    assert (built.consecutive_5xx.value, built.enforcing_consecutive_5xx.value) == (5, 100)
    assert (built.consecutive_gateway_failure.value, built.enforcing_consecutive_gateway_failure.value) == (4, 100)
    assert built.split_external_local_origin_errors
    assert built.consecutive_local_origin_failure.value == 3
    assert built.interval.ToTimedelta() == timedelta(seconds=10)
    assert built.base_ejection_time.ToTimedelta() == timedelta(seconds=30)
    assert built.max_ejection_percent.value == 50


def test_zero_switches_a_count_off() -> None:
    built = build_outlier_detection(OutlierDetection(consecutive_5xx=0, consecutive_gateway_errors=0))
    assert built.HasField("enforcing_consecutive_5xx")
    assert built.enforcing_consecutive_5xx.value == 0
    assert built.enforcing_consecutive_gateway_failure.value == 0


def test_statuses_that_are_errors() -> None:
    one = build_error_matcher((429,))
    assert one.http_response_headers_match.headers[0].string_match.exact == "429"
    both = build_error_matcher((429, 503)).or_match.rules
    assert [each.http_response_headers_match.headers[0].string_match.exact for each in both] == ["429", "503"]
