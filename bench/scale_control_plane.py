"""The control plane that ``bench/scale.py`` measures, in a process of its own; not a bench by itself.

Commands come as lines of JSON on standard input, answers go to standard output. It is the real control plane loop, with
the real roster and ADS server; only ports and credentials are made up, since no Envoy runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
from tests.control.making import CountedPorts, NamedCredentials

from isthmus.ads.server import KEEPALIVE_OPTIONS, AdsServer
from isthmus.ads.status import Statuses
from isthmus.config.load import Loader
from isthmus.control.control_plane import ControlPlane
from isthmus.control.desired import Node
from isthmus.control.roster import Roster
from isthmus.control.transition import Transition
from isthmus.identity.server import ControlPlaneTls, server_credentials
from isthmus.identity.store import load_or_create
from isthmus.latest import Latest
from isthmus.model.world import Address
from isthmus.state import StateDir

DAY = timedelta(days=1)


def _now() -> datetime:
    return datetime.now(UTC)


def rss_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


class Measured:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loader = Loader()
        node = Node("local", Address("127.0.0.1", 1), "enrol.sock", sys.executable)
        self.plane = ControlPlane(node, CountedPorts(), NamedCredentials(), DAY, lambda sources: None, Transition())
        self.statuses = Statuses()

    def load(self) -> None:
        loaded = self.loader.load([self.folder])
        self.plane.inputs.documents = loaded.documents

    async def serve(self, state: Path | None) -> int:
        """On a free port, with mutual TLS where there is a ``state`` with an authority; the port."""
        server = grpc.aio.server(options=[*KEEPALIVE_OPTIONS, ("grpc.max_send_message_length", -1)])
        roster = Roster(self.plane, _now)
        authorize = roster.authorize if state is not None else lambda peer_pem, node_id: None
        server.add_generic_rpc_handlers((AdsServer(roster, authorize, self.statuses, _now).handler(),))
        if state is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            authority = load_or_create(StateDir.at(state), "cluster.local", _now(), "istio-system")
            tls = ControlPlaneTls(Latest(authority), _now, DAY)
            port = server.add_secure_port("127.0.0.1:0", server_credentials(tls))
        await server.start()
        self.server = server
        return port

    def in_sync(self, proxies: int) -> bool:
        newest = self.plane.snapshots
        all_ = self.statuses.all()
        return len(all_) >= proxies and all(
            status.in_sync and status.snapshot_version == newest[status.proxy_id].version for status in all_
        )

    async def edit(self, name: str, text: str, proxies: int) -> dict[str, Any]:
        """Write one file, read it, and follow it until the last proxy has confirmed what came of it."""
        (self.folder / name).write_text(text)
        turn, cpu, started = self.plane.turns.version, time.process_time(), time.monotonic()
        self.load()
        loaded = time.monotonic()
        self.plane.changed()
        await self.plane.turns.after(turn)
        published = time.monotonic()
        async with asyncio.timeout(300):
            while not self.in_sync(proxies):
                await asyncio.sleep(0.005)
        done = time.monotonic()
        return {
            "load_s": loaded - started,
            "publish_s": published - started,
            "acked_s": done - started,
            "cpu_s": time.process_time() - cpu,
        }


async def main(folder: Path, state: Path | None) -> None:
    measured = Measured(folder)
    gc.disable()
    started = time.monotonic()
    measured.load()
    measured.plane.rebuild()
    compiled = time.monotonic() - started
    # As serve/services.py does.
    gc.collect()
    gc.freeze()
    gc.enable()
    port = await measured.serve(state)
    loop = asyncio.create_task(measured.plane.run())
    errors = [str(found) for found in measured.plane.diagnostics if found.severity.word == "error"]
    _say(port=port, start_s=compiled, proxies=[proxy.id for proxy in measured.plane.mesh.proxies], errors=errors[:3])
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        command = json.loads(line)
        if command["do"] == "edit":
            _say(**await measured.edit(command["name"], command["text"], command["proxies"]))
        elif command["do"] == "settle":
            started, cpu = time.monotonic(), time.process_time()
            async with asyncio.timeout(300):
                while not measured.in_sync(command["proxies"]):
                    await asyncio.sleep(0.005)
            _say(at=time.monotonic(), cpu_s=time.process_time() - cpu)
        else:
            gc.collect()
            resident = rss_kib()
            ctypes.CDLL(None).malloc_trim(0)
            _say(rss_kib=resident, trimmed_kib=rss_kib(), cpu_s=time.process_time())
    loop.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await loop
    await measured.server.stop(0)


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
