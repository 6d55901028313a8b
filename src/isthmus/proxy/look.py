"""A look at one Envoy by its admin interface: what drift compares, as text that can travel from machine to machine."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.errors import EnvoyFailed
from isthmus.proxy.envoy import AdminClient

LARGEST_PACKED = 8 << 20
LARGEST = 64 << 20
"""Bytes of what a machine says of one Envoy, on the way and unpacked."""
_LEVELS = ("off", "critical", "error", "warning", "info", "debug", "trace")
_LEVEL = re.compile(r"^\s+\S+: (\w+)$", re.MULTILINE)
_STOPPED = "listener_manager.listener_stopped"


@dataclass(frozen=True, slots=True)
class Look:
    """What an Envoy says of itself. ``dump``: the answer to ``/config_dump``, where private keys are redacted."""

    dump: str = field(repr=False)
    state: str
    """Of ``/server_info``: LIVE, DRAINING, …"""
    options: Mapping[str, str]
    """Its command line."""
    listeners_stopped: int
    """How many listeners were closed by the admin interface since it runs."""
    loudest: str
    """The most talkative log level of any of its loggers."""

    @property
    def digest(self) -> str:
        """Of all of it."""
        # What another machine says may hold halves of surrogate pairs.
        content = (_about(self) + self.dump).encode(errors="backslashreplace")
        return hashlib.blake2b(content, digest_size=16).hexdigest()


async def look_at(admin: AdminClient) -> Look:
    """Raises EnvoyFailed: it does not answer, or not as an Envoy does."""
    try:
        dump = await admin.text("/config_dump")
        server = json.loads(await admin.text("/server_info"))
        stopped = (await admin.stats(f"^{re.escape(_STOPPED)}$")).get(_STOPPED, 0)
        levels = _LEVEL.findall(await admin.text("/logging", method="POST"))
        loudest = max(levels, key=_LEVELS.index) if set(levels) <= set(_LEVELS) and levels else "unknown"
        options = {name: str(value) for name, value in server["command_line_options"].items()}
        return Look(dump, server["state"], options, stopped, loudest)
    except (ValueError, KeyError, TypeError, AttributeError) as broken:
        raise EnvoyFailed(f"its admin interface's answer cannot be read: {type(broken).__name__}") from None


def pack(look: Look, known: str) -> str:
    """For :func:`unpack`; without the content if that has the digest ``known``. Raises EnvoyFailed: it is too large."""
    if look.digest == known:
        return json.dumps({"digest": known})
    content = base64.b64encode(zlib.compress(json.dumps({**_parts(look), "dump": look.dump}).encode())).decode()
    if len(content) > LARGEST_PACKED:
        raise EnvoyFailed(f"what it says of itself has {len(content)} bytes, packed; {LARGEST_PACKED} are taken")
    return json.dumps({"content": content})


def unpack(text: str, known: str) -> Look | None:
    """What :func:`pack` made, by a machine that may be hostile; None: as ``known``. Raises EnvoyFailed."""
    try:
        message = json.loads(text)
        if message.get("digest") == known and known:
            return None
        content = message["content"]
        if len(content) > LARGEST_PACKED:
            raise EnvoyFailed("what it says of itself is too large")
        unpacking = zlib.decompressobj()
        plain = unpacking.decompress(base64.b64decode(content, validate=True), LARGEST)
        if len(plain) == LARGEST:
            raise EnvoyFailed("what it says of itself is too large")
        return _look(json.loads(plain))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, zlib.error) as broken:
        raise EnvoyFailed(f"what it says of itself cannot be read: {type(broken).__name__}") from None


def _look(data: dict[str, Any]) -> Look:
    options = {str(name): str(value) for name, value in data["options"].items()}
    return Look(str(data["dump"]), str(data["state"]), options, int(data["listeners_stopped"]), str(data["loudest"]))


def _parts(look: Look) -> dict[str, Any]:
    return {
        "state": look.state,
        "options": dict(look.options),
        "listeners_stopped": look.listeners_stopped,
        "loudest": look.loudest,
    }


def _about(look: Look) -> str:
    return json.dumps(_parts(look), sort_keys=True)
