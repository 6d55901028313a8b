"""Limits that the limit service counts, as messages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from isthmus.envoy_api import unpack
from isthmus.filters.global_limit import (
    CLOSED,
    GLOBAL_LIMITS,
    OPEN,
    OPEN_GLOBAL_LIMITS,
    GlobalLimit,
    GlobalLimits,
    OpenGlobalLimits,
    limit_log_fields,
)
from isthmus.model.limit import Key, KeyKind
from tests.filters.limits import counted, slots

ONE = GlobalLimit("shop/p/a", counted(by=(Key(KeyKind.CLAIM, "sub"),)))


def built(filter_: Any, config: Any) -> Any:
    (message,) = filter_.build(config)
    assert message.name == filter_.name
    return unpack(message.typed_config)


def test_what_nobody_can_count_is_refused_or_passes() -> None:
    closed, open_ = (
        built(GLOBAL_LIMITS, GlobalLimits((ONE,), "limits")),
        built(OPEN_GLOBAL_LIMITS, OpenGlobalLimits((ONE,), "limits")),
    )
    assert (closed.domain, closed.failure_mode_deny, closed.status_on_error.code) == (CLOSED, True, 503)
    assert (open_.domain, open_.failure_mode_deny) == (OPEN, False)
    assert closed.timeout.ToTimedelta() == timedelta(seconds=1)
    assert closed.rate_limit_service.grpc_service.envoy_grpc.cluster_name == "limits"


def test_the_service_is_told_which_limit_it_is_and_whose_bucket() -> None:
    (limit,) = built(GLOBAL_LIMITS, GlobalLimits((ONE,), "limits")).rate_limits
    first, *others = limit.actions
    assert (first.generic_key.descriptor_key, first.generic_key.descriptor_value) == ("limit", "shop/p/a")
    assert [one.metadata.descriptor_key for one in others] == ["claim:sub", "told:sub"]
    assert not limit.apply_on_stream_done


def test_a_lease_is_given_back_once_by_its_name() -> None:
    limits = (ONE, GlobalLimit("shop/p/s", slots()), GlobalLimit("shop/p/t", slots("t")))
    *asked, back = built(GLOBAL_LIMITS, GlobalLimits(limits, "limits")).rate_limits
    assert [one.apply_on_stream_done for one in asked] == [False] * 3
    assert back.apply_on_stream_done
    assert (back.hits_addend.number.value, back.hits_addend.is_negative_hits) == (1, True)
    release, lease = back.actions
    assert (release.generic_key.descriptor_key, release.generic_key.descriptor_value) == ("release", CLOSED)
    metadata = lease.metadata
    assert (metadata.metadata_key.key, metadata.metadata_key.path[0].key) == ("envoy.filters.http.ratelimit", CLOSED)
    assert not metadata.default_value, "without a lease there is nothing to give back"


def test_a_route_without_any_is_not_the_chain() -> None:
    assert GLOBAL_LIMITS.build_route is not None
    (never,) = GLOBAL_LIMITS.build_route(GlobalLimits((), "limits")).rate_limits  # type: ignore[attr-defined]
    match = never.actions[0].header_value_match
    assert (match.headers[0].name, match.expect_match.value) == (":method", False)
    assert OPEN_GLOBAL_LIMITS.build_route is not None
    (one,) = OPEN_GLOBAL_LIMITS.build_route(OpenGlobalLimits((ONE,), "limits")).rate_limits  # type: ignore[attr-defined]
    assert one.actions[0].generic_key.descriptor_value == "shop/p/a"


def test_log_fields() -> None:
    assert limit_log_fields()["limit"] == "%DYNAMIC_METADATA(envoy.filters.http.ratelimit:limit)%"
