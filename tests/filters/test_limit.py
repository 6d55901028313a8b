"""Limits that each proxy counts by itself, as messages."""

from __future__ import annotations

from typing import Any

from isthmus.envoy_api import unpack
from isthmus.filters.limit import (
    CLIENT_LIMITS,
    EARLY_LIMITS,
    SHADOW_LIMITS,
    ClientLimits,
    EarlyLimits,
    LocalLimit,
    ShadowLimits,
)
from isthmus.model.limit import Key, KeyKind
from tests.filters.limits import EVERY_KEY, local


def built(filter_: Any, config: Any) -> Any:
    (message,) = filter_.build(config)
    assert message.name == filter_.name
    return unpack(message.typed_config)


def entries(descriptor: Any) -> list[tuple[str, str]]:
    return [(one.key, one.value) for one in descriptor.entries]


def test_a_bucket_is_for_all_together_or_for_each() -> None:
    limits = (
        LocalLimit("shop/p/all", local(), None, True),
        LocalLimit("shop/q/each", local(by=(Key(KeyKind.ADDRESS),)), "shop/q", False),
    )
    found = built(EARLY_LIMITS, EarlyLimits(limits))
    assert [entries(one) for one in found.descriptors] == [
        [("limit", "shop/p/all"), ("specific", "-")],
        [("limit", "shop/q/each"), ("held", "yes"), ("masked_remote_address", "")],
    ]
    bucket = found.descriptors[0].token_bucket
    assert (bucket.max_tokens, bucket.tokens_per_fill.value, bucket.fill_interval.seconds) == (5, 3, 60)
    assert [one.x_ratelimit_option for one in found.rate_limits] == [2, 1]
    assert not found.always_consume_default_token_bucket.value
    assert found.filter_enforced.default_value.numerator == 100


def test_every_entry_has_its_action_in_the_same_order() -> None:
    limit = LocalLimit("shop/p/a", local(by=EVERY_KEY, methods=("GET", "M-X"), plans=("free", "gold")), None, True)
    found = built(CLIENT_LIMITS, ClientLimits((limit,)))
    names = ["limit", "specific", "methods", "plans", "masked_remote_address", "claim:sub", "told:sub", "consumer"]
    names += ["tenant", "plan", "route", "header:x-tenant"]
    actions = found.rate_limits[0].actions
    keys = [getattr(one, one.WhichOneof("action_specifier")) for one in actions]
    assert [getattr(one, "descriptor_key", "masked_remote_address") for one in keys] == names
    assert [[key for key, _ in entries(one)] for one in found.descriptors] == [names, names[:-1]] * 2
    assert [dict(entries(one))["plans"] for one in found.descriptors] == ["free", "free", "gold", "gold"]
    assert actions[2].header_value_match.headers[0].string_match.safe_regex.regex == r"GET|M\-X"


def test_what_is_not_there_has_a_value_all_the_same() -> None:
    """An entry that cannot be made would leave the request out of the limit."""
    found = built(CLIENT_LIMITS, ClientLimits((LocalLimit("shop/p/a", local(by=EVERY_KEY), None, True),)))
    for action in found.rate_limits[0].actions:
        if action.WhichOneof("action_specifier") == "metadata":
            assert action.metadata.default_value == "-"
        if action.WhichOneof("action_specifier") == "request_headers":
            assert action.request_headers.skip_if_absent


def test_one_on_trial_is_not_enforced() -> None:
    found = built(SHADOW_LIMITS, ShadowLimits((LocalLimit("shop/p/a", local(shadow=True), None, True),)))
    assert found.filter_enforced.default_value.numerator == 0
    assert found.filter_enabled.default_value.numerator == 100
    assert found.rate_limits[0].x_ratelimit_option == 1
