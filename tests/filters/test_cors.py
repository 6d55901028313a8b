from __future__ import annotations

from datetime import timedelta

from isthmus.envoy_api import unpack
from isthmus.filters.cors import CORS, NAME, Cors, build_route
from isthmus.model.match import Exact, Prefix, Regex


def test_on_the_chain_it_does_nothing():
    (message,) = CORS.build(Cors((Exact("*"),)))
    assert message.name == NAME
    assert unpack(message.typed_config).SerializeToString() == b""


def test_every_field_reaches_the_policy_of_a_route():
    policy = build_route(
        Cors(
            (Exact("*"), Prefix("https://a:"), Regex("https://.*")),
            ("GET", "PUT"),
            ("x-a", "x-b"),
            ("x-c",),
            timedelta(hours=1),
            allow_credentials=True,
            forward_unmatched_preflights=False,
        )
    )
    exact, prefix, regex = policy.allow_origin_string_match
    assert (exact.exact, prefix.prefix, regex.safe_regex.regex) == ("*", "https://a:", "https://.*")
    assert (policy.allow_methods, policy.allow_headers, policy.expose_headers) == ("GET,PUT", "x-a,x-b", "x-c")
    assert policy.max_age == "3600"
    assert policy.allow_credentials.value
    assert policy.filter_enabled.default_value.numerator == 100
    assert not policy.forward_not_matching_preflights.value


def test_as_little_as_can_be():
    policy = build_route(Cors())
    assert (policy.allow_methods, policy.max_age) == ("", "")
    assert not policy.allow_credentials.value
    assert policy.forward_not_matching_preflights.value
