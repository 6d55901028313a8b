from __future__ import annotations

import base64
import json
import zlib

import pytest

from isthmus.errors import EnvoyFailed
from isthmus.proxy.look import LARGEST, LARGEST_PACKED, Look, pack, unpack

LOOK = Look('{"configs": []}', "LIVE", {"config_path": "/run/one.json"}, 0, "warning")


def content(plain: bytes) -> str:
    return json.dumps({"content": base64.b64encode(zlib.compress(plain)).decode()})


def test_there_and_back() -> None:
    assert unpack(pack(LOOK, ""), "") == LOOK
    assert unpack(pack(LOOK, "another"), "another") == LOOK


def test_what_is_known_does_not_travel_again() -> None:
    assert len(pack(LOOK, LOOK.digest)) < 60
    assert unpack(pack(LOOK, LOOK.digest), LOOK.digest) is None


def test_a_digest_that_nobody_asked_for_is_no_answer() -> None:
    for known in ("", "another"):
        with pytest.raises(EnvoyFailed, match="cannot be read"):
            unpack(json.dumps({"digest": LOOK.digest}), known)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("[]", id="a list"),
        pytest.param('{"content": 7}', id="a number"),
        pytest.param('{"content": "!"}', id="not packed"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param(content(b"{}"), id="empty"),
        pytest.param(
            content(b'{"dump": "", "options": [], "state": "", "loudest": "", "listeners_stopped": 0}'), id="list"
        ),
        pytest.param(content(b"[" * 100_000), id="deep within"),
    ],
)
def test_what_is_no_look_is_refused(text: str) -> None:
    with pytest.raises(EnvoyFailed, match="cannot be read"):
        unpack(text, "")


def test_what_is_too_large_is_refused() -> None:
    with pytest.raises(EnvoyFailed, match="too large"):
        unpack(json.dumps({"content": "x" * (LARGEST_PACKED + 1)}), "")
    # A small text that is a large one unpacked.
    with pytest.raises(EnvoyFailed, match="too large"):
        unpack(content(b" " * (LARGEST + 1)), "")
