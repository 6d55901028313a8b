from __future__ import annotations

import base64
from datetime import timedelta

import pytest

from isthmus.errors import NotEnrolled, SpiffeIdInvalid
from isthmus.identity.enrolment import JoinTokens

from .making import NOW


def test_a_token_gives_its_node_once() -> None:
    tokens = JoinTokens()
    token = tokens.issue("local", NOW)
    assert tokens.redeem(token, NOW) == "local"
    with pytest.raises(NotEnrolled, match="unknown, used or expired"):
        tokens.redeem(token, NOW)


def test_every_token_has_its_node() -> None:
    tokens = JoinTokens()
    issued = {tokens.issue(f"n{number}", NOW): f"n{number}" for number in range(5)}
    assert {token: tokens.redeem(token, NOW) for token in reversed(issued)} == issued


def test_a_token_ends_after_ten_minutes_or_as_told() -> None:
    tokens = JoinTokens()
    in_time, too_late, short = (tokens.issue(name, NOW) for name in ("a", "b", "c"))
    assert tokens.redeem(in_time, NOW + timedelta(seconds=599)) == "a"
    with pytest.raises(NotEnrolled):
        tokens.redeem(too_late, NOW + timedelta(seconds=600))
    short = tokens.issue("c", NOW, ttl=timedelta(seconds=5))
    with pytest.raises(NotEnrolled):
        tokens.redeem(short, NOW + timedelta(seconds=5))


@pytest.mark.parametrize("wrong", ["", "x", "\udcff", "ä" * 1000])
def test_what_was_never_issued_is_refused_and_uses_nothing_up(wrong: str) -> None:
    tokens = JoinTokens()
    token = tokens.issue("local", NOW)
    for attempt in (wrong, token[:-1], token + "A", token.swapcase()):
        with pytest.raises(NotEnrolled):
            tokens.redeem(attempt, NOW)
    assert tokens.redeem(token, NOW) == "local"


def test_a_token_has_256_bits_and_only_its_hash_is_kept() -> None:
    tokens = JoinTokens()
    token = tokens.issue("local", NOW)
    assert len(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))) == 32
    assert tokens.issue("local", NOW) != token
    assert token not in repr(tokens)
    assert all(token not in repr(issued) for issued in tokens._issued)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b"])
def test_a_name_that_no_spiffe_id_can_hold_gets_no_token(name: str) -> None:
    with pytest.raises(SpiffeIdInvalid):
        JoinTokens().issue(name, NOW)


def test_expired_tokens_are_forgotten() -> None:
    tokens = JoinTokens()
    for _ in range(10):
        tokens.issue("local", NOW)
    tokens.issue("local", NOW + timedelta(hours=1))
    assert len(tokens._issued) == 1
