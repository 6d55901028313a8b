"""The credentials of the sidecars' outbound proxies: random, kept in the state so that programs need no restart."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping

from isthmus.control.last_good import PrivateFiles

_FILE = "outbound.json"
_BYTES = 24


class OutboundCredentials:
    """One credential per sidecar."""

    def __init__(self, state: PrivateFiles) -> None:
        self._state = state
        self._known: dict[str, str] | None = None

    def settle(self, proxies: Iterable[str]) -> Mapping[str, str]:
        """A credential for each of ``proxies`` (ids), those of before unchanged; those of others are forgotten."""
        if self._known is None:
            self._known = _read(self._state.read(_FILE))
        settled = {proxy: self._known.get(proxy) or secrets.token_urlsafe(_BYTES) for proxy in proxies}
        if settled != self._known:
            self._state.write_private(_FILE, json.dumps(settled).encode())
            self._known = settled
        return settled


def _read(raw: bytes | None) -> dict[str, str]:
    """A file that cannot be understood counts as none."""
    try:
        known = json.loads(raw) if raw is not None else {}
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in known.items()} if isinstance(known, dict) else {}
