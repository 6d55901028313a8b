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


class Files:
    """A state directory in memory."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        return self.content.get(name)

    def write_private(self, name: str, data: bytes) -> None:
        self.content[name] = data


def test_tokens_outlive_the_process_as_hashes() -> None:
    files = Files()
    token = JoinTokens(files).issue("edge-1", NOW, scope="gateway:shop/edge")
    assert token.encode() not in b"".join(files.content.values())
    again = JoinTokens(files)
    assert [(one.node, one.scope) for one in again.waiting(NOW)] == [("edge-1", "gateway:shop/edge")]
    assert again.redeem(token, NOW) == "edge-1"
    assert again.waiting(NOW) == ()


def test_a_used_token_is_told_from_an_unknown_one_also_by_the_next_process() -> None:
    files = Files()
    tokens = JoinTokens(files)
    token = tokens.issue("edge-1", NOW, scope="gateway:shop/edge")
    tokens.redeem(token, NOW)
    for each in (tokens, JoinTokens(files)):
        with pytest.raises(NotEnrolled, match=r"of node edge-1 was used already, at .* UTC: it is for one use"):
            each.redeem(token, NOW)
    with pytest.raises(NotEnrolled, match="unknown, used or expired"):
        tokens.redeem(token, NOW + timedelta(minutes=11))


def test_the_tokens_of_a_node_can_be_forgotten() -> None:
    tokens = JoinTokens()
    gone, stays = tokens.issue("a", NOW), tokens.issue("b", NOW)
    tokens.forget("a")
    with pytest.raises(NotEnrolled):
        tokens.redeem(gone, NOW)
    assert tokens.redeem(stays, NOW) == "b"


@pytest.mark.parametrize("content", [b"", b"{", b"[{}]", b"[1]", b"\xff"])
def test_a_file_that_cannot_be_understood_holds_no_token(content: bytes) -> None:
    files = Files()
    files.content["join-tokens.json"] = content
    tokens = JoinTokens(files)
    assert tokens.waiting(NOW) == ()
    assert tokens.redeem(tokens.issue("a", NOW), NOW) == "a"
