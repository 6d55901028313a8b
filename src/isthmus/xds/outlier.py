"""``outlierDetection`` in Envoy's form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import cluster_v3, common_matcher_v3, matcher_v3, protobuf, route_v3
from isthmus.model.traffic_policy import OutlierDetection


def build_outlier_detection(outlier: OutlierDetection) -> Any:
    """Consecutive failures alone, as in Istio: Envoy's comparison of success rates stays off."""
    off = protobuf.UInt32Value(value=0)
    built = cluster_v3.OutlierDetection(
        enforcing_success_rate=off,
        enforcing_local_origin_success_rate=off,
        max_ejection_percent=protobuf.UInt32Value(value=outlier.max_ejection_percent),
        split_external_local_origin_errors=outlier.split_local_origin,
    )
    if outlier.consecutive_5xx is not None:
        built.consecutive_5xx.value = max(outlier.consecutive_5xx, 1)
        built.enforcing_consecutive_5xx.value = _enforced(outlier.consecutive_5xx)
    if outlier.consecutive_gateway_errors is not None:
        built.consecutive_gateway_failure.value = max(outlier.consecutive_gateway_errors, 1)
        built.enforcing_consecutive_gateway_failure.value = _enforced(outlier.consecutive_gateway_errors)
    if outlier.consecutive_local_origin is not None:
        built.consecutive_local_origin_failure.value = outlier.consecutive_local_origin
    if outlier.interval is not None:
        built.interval.CopyFrom(duration(outlier.interval))
    if outlier.base_ejection_time is not None:
        built.base_ejection_time.CopyFrom(duration(outlier.base_ejection_time))
    return built


def _enforced(count: int) -> int:
    """Percent of ejections that really happen: a count of zero switches them off."""
    return 100 if count else 0


def build_error_matcher(codes: Sequence[int]) -> Any:
    """An envoy.config.common.matcher.v3.MatchPredicate of answers with one of the statuses ``codes``."""
    rules = [
        common_matcher_v3.MatchPredicate(
            http_response_headers_match=common_matcher_v3.HttpHeadersMatch(
                headers=[route_v3.HeaderMatcher(name=":status", string_match=matcher_v3.StringMatcher(exact=str(code)))]
            )
        )
        for code in codes
    ]
    if len(rules) == 1:
        return rules[0]
    return common_matcher_v3.MatchPredicate(or_match=common_matcher_v3.MatchPredicate.MatchSet(rules=rules))
