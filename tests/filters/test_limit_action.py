"""The entries of a request's descriptor."""

from __future__ import annotations

from isthmus.filters.limit_action import named, never, steps, where
from isthmus.model.consumer import CLIENT
from isthmus.model.limit import Key, KeyKind
from tests.filters.limits import local


def test_which_limit_and_where() -> None:
    assert (named("shop/p/a").key, named("shop/p/a").values) == ("limit", ("shop/p/a",))
    held = where("shop/p").action.metadata
    assert (held.metadata_key.key, held.metadata_key.path[0].key) == ("isthmus.limits", "shop/p")
    assert held.source == 1, "of the route"
    assert not held.default_value, "elsewhere there is no descriptor"
    assert where(None).values == ("-",)
    assert where(None).action.metadata.default_value == "-"


def test_a_claim_is_that_of_a_jwt_or_of_a_token_that_was_asked_about() -> None:
    found = [step.action.metadata.metadata_key for step in steps(local(by=(Key(KeyKind.CLAIM, "sub"),)))]
    assert [(one.key, [segment.key for segment in one.path]) for one in found] == [
        ("envoy.filters.http.jwt_authn", ["payload", "sub"]),
        (CLIENT, ["claims", "sub"]),
    ]


def test_a_consumer_is_known_by_its_namespace_too() -> None:
    found = [step.key for step in steps(local(by=(Key(KeyKind.CONSUMER),)))]
    assert found == ["consumer", "tenant"]


def test_of_an_address_of_ipv6_the_network_counts() -> None:
    (step,) = steps(local(by=(Key(KeyKind.ADDRESS),)))
    masked = step.action.masked_remote_address
    assert (masked.v6_prefix_mask_len.value, masked.HasField("v4_prefix_mask_len")) == (64, False)


def test_only_a_header_may_be_missing() -> None:
    every = (Key(KeyKind.HEADER, "x-a"), Key(KeyKind.PLAN), Key(KeyKind.ROUTE), Key(KeyKind.TENANT))
    assert [step.optional for step in steps(local(by=every))] == [True, False, False, False]


def test_never() -> None:
    assert not never().actions[0].header_value_match.expect_match.value
