"""Rego bundles on another machine: fetched from the control plane by the node's own certificate, kept in its state."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final

import grpc
import grpc.aio

from isthmus.errors import StateUnusable
from isthmus.identity.wire import FETCH_BUNDLE_PATH
from isthmus.model.rego_bundle import bundle_file
from isthmus.proxy.keep import Say
from isthmus.state import StateDir

_MAX_BYTES: Final = 32 << 20
_DEADLINE_SECONDS: Final = 60.0
_PATTERN: Final = bundle_file("*")
_LEFT_OUT: Final = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED})
"""The control plane's plan has changed meanwhile; the new one comes by itself."""


async def fetch_bundles(channel: Any, state: StateDir, digests: Iterable[str], say: Say) -> None:
    """Have those of ``digests`` that are not here yet.

    One that cannot be had is said and left out: who decides by it keeps what it had, or refuses. Raises AioRpcError:
    the control plane is away; its plan comes again when it is back.
    """
    for digest in digests:
        if _is_here(state, digest):
            continue
        try:
            state.write_private(bundle_file(digest), await _fetch(channel, digest))
        except (StateUnusable, ValueError) as fault:
            say("rego bundle", f"{digest[:12]}: {fault}")
        except grpc.aio.AioRpcError as failed:
            if failed.code() not in _LEFT_OUT:
                raise
            say("rego bundle", f"{digest[:12]}: {failed.details()}")


def prune_bundles(state: StateDir, keep: Iterable[str]) -> None:
    """Remove all others. Raises nothing: what cannot be removed costs room alone."""
    names = {state.within(bundle_file(digest)) for digest in keep}
    with suppress(OSError):
        for file in state.path.glob(_PATTERN):
            if file not in names:
                file.unlink()


def _is_here(state: StateDir, digest: str) -> bool:
    with suppress(StateUnusable):
        found = state.read(bundle_file(digest))
        return found is not None and sha256(found).hexdigest() == digest
    return False


async def _fetch(channel: Any, digest: str) -> bytes:
    """Raises AioRpcError; ValueError: not the bundle of that digest."""
    packed = bytearray()
    call = channel.unary_stream(FETCH_BUNDLE_PATH)(digest.encode(), timeout=_DEADLINE_SECONDS)
    async for piece in call:
        packed += piece
        if len(packed) > _MAX_BYTES:
            call.cancel()
            raise ValueError(f"more than {_MAX_BYTES} bytes")
    if sha256(packed).hexdigest() != digest:
        raise ValueError("what came is another bundle")
    return bytes(packed)
