from __future__ import annotations

import pytest

from isthmus.diag import Origin, Ref, Source
from isthmus.envoy_api import unpack
from isthmus.filters.jwt_authn import (
    JWT_AUTHN,
    JwtAuthn,
    JwtProviderConfig,
    JwtRequirement,
    JwtRoute,
    Missing,
    reserved_headers,
)
from isthmus.model.key_set import NO_KEYS
from isthmus.model.policy import JwtRule, TokenHeader

_ORIGIN = Origin(Ref("RequestAuthentication", "shop", "idp"), Source("shop.yaml", 1, 1))
_P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def _built(*rules):
    (message,) = JWT_AUTHN.build(JwtAuthn(tuple(JwtProviderConfig(rule, rule.jwks) for rule in rules)))
    return unpack(message.typed_config)


def test_every_field_of_a_rule_reaches_the_provider():
    rule = JwtRule(
        "https://idp",
        _ORIGIN,
        audiences=("a", "b"),
        jwks='{"keys":[]}',
        from_headers=(TokenHeader("x-token", "Token "),),
        from_params=("t",),
        from_cookies=("session",),
        forward_original_token=True,
        output_payload_to_header="X-Payload",
        output_claim_to_headers=(("X-Sub", "sub"),),
        space_delimited_claims=("tags", "scope"),
    )
    provider = _built(rule).providers["issuer-0"]
    assert provider.issuer == "https://idp"
    assert list(provider.audiences) == ["a", "b"]
    assert provider.local_jwks.inline_string == '{"keys":[]}'
    assert [(h.name, h.value_prefix) for h in provider.from_headers] == [("x-token", "Token ")]
    assert (list(provider.from_params), list(provider.from_cookies)) == (["t"], ["session"])
    assert provider.forward
    assert provider.require_expiration
    assert provider.forward_payload_header == "X-Payload"
    assert [(c.header_name, c.claim_name) for c in provider.claim_to_headers] == [("X-Sub", "sub")]
    claims = provider.normalize_payload_in_metadata.space_delimited_claims
    assert list(claims) == ["scope", "permission", "tags"]


def test_one_issuer_is_its_token_or_none():
    (rule,) = _built(JwtRule("https://idp", _ORIGIN)).rules
    provider, missing = rule.requires.requires_any.requirements
    assert provider.provider_name == "issuer-0"
    assert missing.HasField("allow_missing")


def test_several_issuers_are_sorted_and_each_may_be_missing():
    built = _built(JwtRule("https://z", _ORIGIN), JwtRule("https://a", _ORIGIN))
    assert [built.providers[name].issuer for name in ("issuer-0", "issuer-1")] == ["https://a", "https://z"]
    first, second, none = built.rules[0].requires.requires_any.requirements
    assert (first.provider_name, second.provider_name) == ("issuer-0", "issuer-1")
    for name, either in zip(("issuer-0", "issuer-1"), none.requires_all.requirements, strict=True):
        provider, missing = either.requires_any.requirements
        assert provider.provider_name == name
        assert missing.HasField("allow_missing")


def test_without_keys_nobodys_stand_in():
    (message,) = JWT_AUTHN.build(JwtAuthn((JwtProviderConfig(JwtRule("https://idp", _ORIGIN), None),)))
    assert unpack(message.typed_config).providers["issuer-0"].local_jwks.inline_string == NO_KEYS.text


def test_reserved_headers_are_those_that_any_rule_sets():
    rules = (
        JwtRule("https://a", _ORIGIN, output_payload_to_header="X-Payload"),
        JwtRule("https://b", _ORIGIN, output_claim_to_headers=(("x-sub", "sub"), ("X-Payload", "iss"))),
    )
    assert reserved_headers(rules) == ("x-payload", "x-sub")


def test_for_routes_alone_nothing_is_refused_taken_off_or_added():
    rule = JwtRule("https://idp", _ORIGIN, output_payload_to_header="x-payload", output_claim_to_headers=(("x", "y"),))
    (message,) = JWT_AUTHN.build(JwtAuthn((JwtProviderConfig(rule, None),), clear_route_cache=True, only_claims=True))
    built = unpack(message.typed_config)
    provider = built.providers["issuer-0"]
    assert provider.forward
    assert provider.clear_route_cache
    assert provider.payload_in_metadata == "payload"
    assert (provider.forward_payload_header, list(provider.claim_to_headers)) == ("", [])
    named, whatever = built.rules[0].requires.requires_any.requirements
    assert named.provider_name == "issuer-0"
    assert whatever.HasField("allow_missing_or_failed")


def test_the_route_is_chosen_once_unless_it_asks_for_claims():
    assert not _built(JwtRule("https://idp", _ORIGIN)).providers["issuer-0"].clear_route_cache


_TWO = tuple(JwtProviderConfig(JwtRule(name, _ORIGIN), None) for name in ("https://a", "https://b"))


def test_a_route_asks_by_name_for_what_the_filter_knows():
    one, both = (JwtRequirement(names, Missing.REFUSED) for names in (("https://a",), ("https://b", "https://a")))
    whatever = JwtRequirement(("https://b",), Missing.WHATEVER)
    (message,) = JWT_AUTHN.build(JwtAuthn(_TWO, requirements=(one, both, whatever)))
    known = unpack(message.typed_config).requirement_map
    assert known[one.name].provider_name == "issuer-0"
    assert [each.provider_name for each in known[both.name].requires_any.requirements] == ["issuer-0", "issuer-1"]
    of_b, failed = known[whatever.name].requires_any.requirements
    assert of_b.provider_name == "issuer-1"
    assert failed.HasField("allow_missing_or_failed")
    assert JWT_AUTHN.build_route(JwtRoute(both)).requirement_name == both.name
    assert JWT_AUTHN.build_route(JwtRoute(None)).disabled


def test_the_same_issuers_in_another_order_are_the_same_requirement():
    names = ("https://a", "https://b")
    assert JwtRequirement(names, Missing.ALLOWED).name == JwtRequirement(names[::-1], Missing.ALLOWED).name
    assert len({JwtRequirement(names, missing).name for missing in Missing}) == 3


def test_what_holds_where_a_route_says_nothing():
    everywhere = JwtRoute(JwtRequirement(("https://b",), Missing.REFUSED))
    (message,) = JWT_AUTHN.build(JwtAuthn(_TWO, everywhere=everywhere))
    assert unpack(message.typed_config).rules[0].requires.provider_name == "issuer-1"
    (message,) = JWT_AUTHN.build(JwtAuthn(_TWO, everywhere=JwtRoute(None)))
    assert list(unpack(message.typed_config).rules) == []


def test_a_requirement_of_nobody_is_a_fault_of_ours():
    with pytest.raises(ValueError, match="no rule for any of https://c"):
        JWT_AUTHN.build(JwtAuthn(_TWO, requirements=(JwtRequirement(("https://c",), Missing.REFUSED),)))
