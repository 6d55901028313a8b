from __future__ import annotations

import asyncio
import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.errors import EnvoyFailed
from isthmus.proxy.envoy import AdminClient
from isthmus.proxy.look import LARGEST, LARGEST_PACKED, Look, look_at, pack, unpack

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
        pytest.param(
            content(b'{"dump": "", "options": {}, "state": "", "loudest": "", "listeners_stopped": Infinity}'),
            id="endless",
        ),
    ],
)
def test_what_is_no_look_is_refused(text: str) -> None:
    with pytest.raises(EnvoyFailed, match="cannot be read"):
        unpack(text, "")


def test_half_of_a_surrogate_pair_has_a_digest() -> None:
    half = replace(LOOK, dump="\ud800")
    assert unpack(pack(half, ""), "") == half
    assert half.digest != LOOK.digest


async def test_an_admin_interface_that_answers_otherwise_than_an_envoy(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\n{")
        writer.close()

    path = tmp_path / "one.admin"
    async with await asyncio.start_unix_server(answer, path):
        with pytest.raises(EnvoyFailed, match="JSONDecodeError"):
            await look_at(AdminClient(path))


def test_what_is_too_large_is_refused() -> None:
    with pytest.raises(EnvoyFailed, match="too large"):
        unpack(json.dumps({"content": "x" * (LARGEST_PACKED + 1)}), "")
    # A small text that is a large one unpacked.
    with pytest.raises(EnvoyFailed, match="too large"):
        unpack(content(b" " * (LARGEST + 1)), "")
