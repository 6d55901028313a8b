from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from isthmus.identity.wire import FETCH_BUNDLE, REGO_BUNDLES
from isthmus.model.rego_bundle import bundle_file
from isthmus.proxy.rego_bundle import fetch_bundles, prune_bundles
from isthmus.state import StateDir

ONE, TWO = b"one" * 100_000, b"two"


def digest(packed: bytes) -> str:
    return sha256(packed).hexdigest()


class Plane:
    """A control plane that has these bundles."""

    def __init__(self) -> None:
        self.lacking = grpc.StatusCode.NOT_FOUND
        self.packed = {digest(one): one for one in (ONE, TWO)}
        self.asked: list[str] = []

    async def fetch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.asked.append(request.decode())
        packed = self.packed.get(request.decode())
        if packed is None:
            await context.abort(self.lacking, "no such bundle")
        for at in range(0, len(packed), 100_000):
            yield packed[at : at + 100_000]


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.at(tmp_path / "state").open()


async def fetched(plane: Plane, state: StateDir, *digests: str) -> list[str]:
    """What was said."""
    said: list[str] = []
    server = grpc.aio.server()
    method = grpc.unary_stream_rpc_method_handler(plane.fetch)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(REGO_BUNDLES, {FETCH_BUNDLE: method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await fetch_bundles(channel, state, digests, lambda what, why: said.append(why))
    finally:
        await server.stop(None)
    return said


async def test_what_is_missing_is_fetched_once(state: StateDir) -> None:
    plane = Plane()
    assert await fetched(plane, state, digest(ONE), digest(TWO)) == []
    assert state.read(bundle_file(digest(ONE))) == ONE
    await fetched(plane, state, digest(ONE), digest(TWO))
    assert plane.asked == [digest(ONE), digest(TWO)]


async def test_a_file_that_somebody_changed_is_fetched_again(state: StateDir) -> None:
    state.write_private(bundle_file(digest(TWO)), b"other")
    await fetched(Plane(), state, digest(TWO))
    assert state.read(bundle_file(digest(TWO))) == TWO


async def test_what_is_not_to_be_had_is_said(state: StateDir) -> None:
    plane = Plane()
    assert "no such bundle" in (await fetched(plane, state, "a" * 64))[0]
    plane.lacking = grpc.StatusCode.PERMISSION_DENIED
    assert "no such bundle" in (await fetched(plane, state, "a" * 64))[0]
    plane.packed["b" * 64] = ONE
    assert "another bundle" in (await fetched(plane, state, "b" * 64, digest(TWO)))[0]
    assert state.read(bundle_file("b" * 64)) is None
    assert state.read(bundle_file(digest(TWO))) == TWO, "one that fails does not stop the others"
    (state.path / "bundles" / "x").mkdir()


async def test_a_disk_that_takes_nothing(state: StateDir) -> None:
    (state.path / "bundles").write_text("in the way")
    assert await fetched(Plane(), state, digest(ONE))


async def test_a_control_plane_that_is_away(state: StateDir) -> None:
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    with pytest.raises(grpc.aio.AioRpcError):
        await fetch_bundles(channel, state, (digest(ONE),), lambda what, why: None)
    await channel.close(None)


def test_pruning(state: StateDir) -> None:
    prune_bundles(state, ())
    for packed in (ONE, TWO):
        state.write_private(bundle_file(digest(packed)), packed)
    prune_bundles(state, (digest(TWO),))
    assert state.read(bundle_file(digest(ONE))) is None
    assert state.read(bundle_file(digest(TWO))) == TWO
