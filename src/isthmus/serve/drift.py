"""Drift in the control plane: what the admin interfaces of this machine's Envoys say, and what is told of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping

from isthmus.drift.seen import Seen, read_seen
from isthmus.drift.server import DriftService
from isthmus.proxy.envoy import AdminClient
from isthmus.proxy.place import Folders

_LEVELS = ("off", "critical", "error", "warning", "info", "debug", "trace")
_LEVEL = re.compile(r"^\s+\S+: (\w+)$", re.MULTILINE)
_STOPPED = "listener_manager.listener_stopped"


class Looks:
    """Asks the admin interfaces; what is the same as the last time is not read again."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._last: dict[str, bytes] = {}

    async def __call__(self, proxy: str) -> Seen | None:
        """None: as it was. Raises EnvoyFailed."""
        admin = AdminClient(self._folders.admin_socket(proxy))
        dump = await admin.text("/config_dump")
        server = json.loads(await admin.text("/server_info"))
        stopped = (await admin.stats(f"^{re.escape(_STOPPED)}$")).get(_STOPPED, 0)
        levels = _LEVEL.findall(await admin.text("/logging", method="POST"))
        loudest = max(levels, key=_LEVELS.index) if set(levels) <= set(_LEVELS) and levels else "unknown"
        options = {name: str(value) for name, value in server["command_line_options"].items()}
        about = json.dumps([server["state"], options, stopped, loudest], sort_keys=True)
        digest = hashlib.blake2b((about + dump).encode()).digest()
        if self._last.get(proxy) == digest:
            return None
        self._last[proxy] = digest
        return read_seen(dump, server["state"], options, stopped, loudest)


def drift_gauges(service: DriftService) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    """For the control plane's metrics."""
    return {"isthmus_drift": Counter((one.proxy, one.kind.value) for one in service.found.value)}
