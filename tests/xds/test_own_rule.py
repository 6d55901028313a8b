from __future__ import annotations

import pytest

from isthmus.filters.jwt_authn import JwtAuthn, JwtProviderConfig
from isthmus.model.policy import JwtRule
from isthmus.model.reason import REASONS
from isthmus.model.refusal import RuleNamed
from isthmus.xds.own_rule import CRITICAL, DOT_PARAMETER, HOST_LIST, own_rules

from .making import origin

TOKENS = JwtAuthn((JwtProviderConfig(JwtRule("https://auth.example.com", origin()), None),))


def names(tokens: JwtAuthn, *, edge: bool) -> list[str]:
    return [rule.name for rule in own_rules(tokens, edge=edge)]


def test_where_they_hold() -> None:
    assert names(JwtAuthn(()), edge=False) == []
    assert names(JwtAuthn(()), edge=True) == [DOT_PARAMETER, HOST_LIST]
    assert names(TOKENS, edge=False) == [CRITICAL]
    assert names(JwtAuthn(TOKENS.rules, only_claims=True), edge=False) == []


def test_a_critical_header_is_refused_in_sessions_too() -> None:
    (rule,) = own_rules(JwtAuthn(()), edge=False, logins=("1f",))
    assert rule.name == CRITICAL
    assert "login:1f" in str(rule)


@pytest.mark.parametrize(
    ("rule", "code"), [(CRITICAL, "jwt-critical"), (DOT_PARAMETER, "path-ambiguous"), (HOST_LIST, "host-ambiguous")]
)
def test_each_has_its_reason(rule: str, code: str) -> None:
    (reason,) = (one for one in REASONS if one.code == code)
    assert RuleNamed(rule) in reason.signs
