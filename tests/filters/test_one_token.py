from __future__ import annotations

import re

import pytest

from isthmus.diag import Origin, Ref, Source
from isthmus.envoy_api import unpack
from isthmus.filters.one_token import ONE_TOKEN, RULE, OneToken, token_places
from isthmus.model.match import Regex
from isthmus.model.policy import JwtRule, TokenHeader
from isthmus.model.predicate import Header

_ORIGIN = Origin(Ref("RequestAuthentication", "shop", "idp"), Source("shop.yaml", 1, 1))
BEARER = TokenHeader("authorization", "Bearer ")


def test_the_places_are_those_of_all_rules_each_once() -> None:
    rules = (
        JwtRule("https://a", _ORIGIN),
        JwtRule("https://b", _ORIGIN, from_headers=(TokenHeader("X-Token"),), from_cookies=("session",)),
        JwtRule("https://c", _ORIGIN, from_params=("access_token", "t")),
    )
    assert token_places(rules) == OneToken((BEARER, TokenHeader("x-token")), ("access_token", "t"), ("session",))


def test_opaque_tokens_have_one_place() -> None:
    assert token_places((), opaque=True) == OneToken((BEARER,), (), ())
    assert len(token_places((), opaque=True).all) == 1


def test_every_two_places_are_one_too_many() -> None:
    (message,) = ONE_TOKEN.build(OneToken((BEARER,), ("a", "b"), ()))
    policies = unpack(message.typed_config).rules.policies
    assert sorted(policies) == [RULE, f"{RULE}-1", f"{RULE}-2"]


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/?access_token=x", True),
        ("/?a=b&access_token=", True),
        ("/?%61ccess%5ftoken=x", True),
        ("/?ACCESS_TOKEN=x", False),
        ("/?not_access_token=x", False),
        ("/access_token=x", False),
        ("/?a=access_token", False),
    ],
)
def test_the_name_of_a_parameter_may_be_encoded(path: str, there: bool) -> None:
    (place,) = OneToken((), ("access_token",), ()).all
    assert isinstance(place, Header)
    assert isinstance(place.match, Regex)
    assert (re.fullmatch(place.match.value, path) is not None) is there


@pytest.mark.parametrize(
    ("cookie", "there"),
    [
        ("session=x", True),
        ("a=b; session=x", True),
        ("a=b;session = x", True),
        ("xsession=x", False),
        ("a=session", False),
    ],
)
def test_a_cookie_is_found_among_others(cookie: str, there: bool) -> None:
    (place,) = OneToken((), (), ("session",)).all
    assert isinstance(place, Header)
    assert isinstance(place.match, Regex)
    assert (re.fullmatch(place.match.value, cookie) is not None) is there
