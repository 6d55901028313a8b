"""The relay's process: an Envoy in the machine's network, told by files where its Unix sockets lead."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from isthmus.envoy_api import to_json
from isthmus.model.world import Address
from isthmus.proxy.child import Child, start_child
from isthmus.proxy.envoy import AdminClient, envoy_argv
from isthmus.proxy.log import Logs
from isthmus.proxy.place import Folders, open_new, relay_settings
from isthmus.xds.relay import (
    RELAY_ID,
    build_relay_bootstrap,
    build_relay_clusters,
    build_relay_listeners,
    relay_socket,
)

_CONCURRENCY = 1
_DRAIN = timedelta(seconds=1)
_END_GRACE = timedelta(seconds=2)
"""It ends after the sidecars, when nothing goes through it any more."""


@dataclass(frozen=True, slots=True)
class RelayProgram:
    """Starts, aims and ends the relay of one node."""

    folders: Folders
    logs: Logs = field(default_factory=Logs)

    @property
    def admin(self) -> AdminClient:
        return AdminClient(self.folders.admin_socket(RELAY_ID))

    def aim(self, targets: tuple[Address, ...]) -> None:
        """Have a Unix socket for each of ``targets``, now or once it runs. Raises OSError."""
        settings = relay_settings(self.folders)
        # Clusters first: a listener to a cluster that is not there yet would close its first connections.
        _replace(Path(settings.clusters), build_relay_clusters(targets))
        _replace(Path(settings.listeners), build_relay_listeners(settings, targets))
        wanted = {relay_socket(settings.folder, to) for to in (*targets, None)}
        for socket in self.folders.relay_sockets():
            if str(socket) not in wanted:
                socket.unlink(missing_ok=True)

    async def start(self, _last_code: int | None = None) -> Child:
        """Raises EnvoyFailed or OSError."""
        self._tidy()
        bootstrap = self.folders.bootstrap(RELAY_ID)
        with open_new(bootstrap) as file:
            file.write(json.dumps(to_json(build_relay_bootstrap(relay_settings(self.folders)))).encode())
        with self.logs.open(self.folders.log(RELAY_ID)) as log:
            return await start_child(envoy_argv(bootstrap, _CONCURRENCY, _DRAIN), stdout=log.writer, stderr=log.writer)

    async def stop(self, child: Child) -> int:
        code = await child.end(_END_GRACE)
        self._tidy()
        return code

    def _tidy(self) -> None:
        sockets = (self.folders.admin_socket(RELAY_ID), *self.folders.relay_sockets())
        for left in (*sockets, self.folders.bootstrap(RELAY_ID)):
            left.unlink(missing_ok=True)


def _replace(path: Path, message: Any) -> None:
    """By renaming, which is what Envoy watches for; not at all if nothing changed."""
    text = json.dumps(to_json(message)).encode()
    if path.is_file() and path.read_bytes() == text:
        return
    beside = path.with_suffix(".new")
    with open_new(beside) as file:
        file.write(text)
    beside.replace(path)
