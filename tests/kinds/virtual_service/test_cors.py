from __future__ import annotations

from datetime import timedelta

import pytest

from isthmus.filters.cors import Cors
from isthmus.model.match import Exact, Prefix, Regex

from .route_manifest import route

SHOP = Exact("https://shop.example.com")
EXACT = "allowOrigins: [{exact: https://shop.example.com}]"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (EXACT, Cors((SHOP,))),
        ("allowOrigin: ['*', https://shop.example.com]", Cors((Exact("*"), SHOP))),
        ("allowOrigins: [{prefix: 'https://a.example:'}, {regex: https://.*}]",
         Cors((Prefix("https://a.example:"), Regex("https://.*")))),
        (f"{EXACT}, allowMethods: [GET, '*'], allowHeaders: [x-a, '*'], exposeHeaders: [x-b]",
         Cors((SHOP,), ("GET", "*"), ("x-a", "*"), ("x-b",))),
        (f"{EXACT}, maxAge: 24h", Cors((SHOP,), max_age=timedelta(days=1))),
        ("allowOrigins: [{regex: 'https://.*[.]example'}], allowCredentials: true",
         Cors((Regex("https://.*[.]example"),), allow_credentials=True)),
        (f"{EXACT}, allowCredentials: true", Cors((SHOP,), allow_credentials=True)),
        (f"{EXACT}, unmatchedPreflights: IGNORE", Cors((SHOP,), forward_unmatched_preflights=False)),
        (f"{EXACT}, unmatchedPreflights: FORWARD", Cors((SHOP,))),
        (f"{EXACT}, unmatchedPreflights: UNSPECIFIED", Cors((SHOP,))),
    ],
)  # fmt: skip
def test_policies(policy: str, expected: Cors) -> None:
    done = route(f"corsPolicy: {{{policy}}}")
    assert done.found == []
    assert done.mesh.routes[0].routes[0].filters == {Cors: expected}


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        ("allowOrigins: [{regex: 'https://(?!evil).*'}]", "7:41 error IST0122"),
        ("allowOrigins: [{exact: a, prefix: b}]", "7:33 error ISM1106"),
        ("allowOrigins: [https://a.example]", "7:33 error ISM1102"),
        ("allowOrigins: [{exact: a}], allowOrigin: [a]", "7:17 error ISM1106"),
        (EXACT + ", allowMethods: [get]", "7:84 error ISM1106"),
        (EXACT + ", allowHeaders: ['x a']", "7:84 error ISM1106"),
        (EXACT + ", exposeHeaders: ['']", "7:85 error ISM1106"),
        (EXACT + ", maxAge: 1500ms", "7:77 error ISM1106"),
        (EXACT + ", maxAge: 0s", "7:77 error ISM1106"),
        (EXACT + ", unmatchedPreflights: DROP", "7:90 error ISM1106"),
    ],
)
def test_policies_that_cannot_be_read(policy: str, found: str) -> None:
    assert route(f"corsPolicy: {{{policy}}}").found == [found]


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        ("", "7:17 warning ISM2152"),
        ("allowOrigins: [{exact: '*'}], allowCredentials: true", "7:33 warning ISM2152"),
        ("allowOrigin: ['*'], allowCredentials: true", "7:32 warning ISM2152"),
        ("allowOrigins: [{regex: '.*'}], allowCredentials: true", "7:33 warning ISM2152"),
        ("allowOrigins: [{regex: 'https?://.+$'}], allowCredentials: true", "7:33 warning ISM2152"),
        ("allowOrigins: [{prefix: https}], allowCredentials: true", "7:33 warning ISM2152"),
        ("allowOrigins: [{prefix: https://shop.example.com}]", "7:33 warning ISM2152"),
    ],
)
def test_origins_that_are_not_what_they_look_like(policy: str, found: str) -> None:
    done = route(f"corsPolicy: {{{policy}}}")
    assert done.found == [found]
    assert done.mesh.routes
