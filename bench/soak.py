"""Memory and file handles of every process, minute by minute, while everything changes under load.

``python -m bench soak``; BENCH_SOAK_MINUTES says how long, if not an hour. Each minute's figures are the raw rounds of
their rows, the first minute first.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.real.changing import GATEWAY, SIDECAR, Changing, changing

MINUTES = float(os.environ.get("BENCH_SOAK_MINUTES", "60"))
RATE = 50.0
_SVID_TTL_SECONDS = 120
_PARTS = {"serve": "control plane", "agent": "agent", GATEWAY: "gateway Envoy", SIDECAR: "sidecar Envoy"}


def measure() -> Iterator[tuple[str, str, list[float]]]:
    resident: dict[str, list[float]] = defaultdict(list)
    handles: dict[str, list[float]] = defaultdict(list)
    changes = 0
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        changing(Path(folder), "--svid-ttl", f"{_SVID_TTL_SECONDS}s") as mesh,
        mesh.load(connections=8, rate=RATE) as load,
    ):
        for minute in range(1, max(1, round(MINUTES)) + 1):
            while load.now < 60.0 * minute:
                mesh.change(changes, seconds=60.0)
                changes += 1
                time.sleep(0.05)
            for name, pid in _processes(mesh).items():
                resident[name].append(_resident_mib(pid))
                handles[name].append(float(len(os.listdir(f"/proc/{pid}/fd"))))
    yield "minutes", "", [MINUTES]
    yield "changes", "", [float(changes)]
    yield "requests sent", "", [float(load.sent)]
    yield "requests failed", "", [float(len(load.failures))]
    for name in resident:
        yield f"memory of the {name}, each minute", "MiB", resident[name]
        yield f"file handles of the {name}, each minute", "", handles[name]


def _processes(mesh: Changing) -> dict[str, int]:
    return {"supervisor": mesh.up.process.pid} | {name: mesh.pid(part) for part, name in _PARTS.items()}


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
