"""One token is enough: a request with tokens in two places is refused, for nobody can say whose request it is.

jwt_authn verifies both, and tells of the one in its metadata and of either in the headers that it makes of claims.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from isthmus.envoy_api.packages import rbac_config_v3, rbac_v3
from isthmus.filters.filter import Filter, http_filter
from isthmus.filters.rbac import NamedRule, build_rules
from isthmus.model.match import Contains, Present, Regex
from isthmus.model.policy import JwtRule, TokenHeader
from isthmus.model.predicate import Header, Predicate, all_of

NAME = "isthmus.one_token"
RULE = "isthmus-two-tokens"
"""What access logs call it."""

_USUAL = (TokenHeader("authorization", "Bearer "),)
_USUAL_PARAMETERS = ("access_token",)


@dataclass(frozen=True, slots=True)
class OneToken:
    """The places where any of the port's rules looks for tokens."""

    headers: tuple[TokenHeader, ...]
    parameters: tuple[str, ...]
    cookies: tuple[str, ...]

    @property
    def all(self) -> tuple[Predicate, ...]:
        """That a token is there: of each place."""
        found = (*map(_in_header, self.headers), *map(_in_query, self.parameters), *map(_in_cookie, self.cookies))
        return tuple(dict.fromkeys(found))


def token_places(rules: Iterable[JwtRule], *, opaque: bool = False) -> OneToken:
    """``opaque``: tokens that are no JWTs are taken, too, and stand in ``Authorization`` alone."""
    headers: dict[TokenHeader, None] = dict.fromkeys(_USUAL) if opaque else {}
    parameters: dict[str, None] = {}
    cookies: dict[str, None] = {}
    for rule in rules:
        usual = not (rule.from_headers or rule.from_params or rule.from_cookies)
        named = _USUAL if usual else rule.from_headers
        headers.update((TokenHeader(header.name.lower(), header.prefix), None) for header in named)
        parameters.update(dict.fromkeys(_USUAL_PARAMETERS if usual else rule.from_params))
        cookies.update(dict.fromkeys(rule.from_cookies))
    return OneToken(tuple(headers), tuple(parameters), tuple(cookies))


def _build(config: OneToken) -> tuple[Any, ...]:
    rules = (
        NamedRule(RULE if not index else f"{RULE}-{index}", all_of(*pair))
        for index, pair in enumerate(combinations(config.all, 2))
    )
    return (http_filter(NAME, rbac_v3.RBAC(rules=build_rules(rbac_config_v3.RBAC.DENY, rules))),)


def _in_header(header: TokenHeader) -> Predicate:
    """jwt_authn finds a prefix anywhere in the value."""
    return Header(header.name, Contains(header.prefix) if header.prefix else Present())


def _in_query(name: str) -> Predicate:
    """jwt_authn decodes the names of parameters; ``:path`` is as it came."""
    return Header(":path", Regex(rf".*[?&]{_written(name)}=.*"))


def _in_cookie(name: str) -> Predicate:
    return Header("cookie", Regex(rf"(.*;)?\s*\"?{re.escape(name)}\s*=.*"))


def _written(name: str) -> str:
    """Each character as it is, or percent-encoded."""
    return "".join(_either(character) for character in name)


def _either(character: str) -> str:
    encoded = "".join(f"%{byte:02X}" for byte in character.encode())
    return f"(?:{re.escape(character)}|(?i:{encoded}))"


ONE_TOKEN = Filter(NAME, OneToken, _build, discovered=True)
