"""A thousand changes of routes, endpoints and policies, and every certificate anew, at half of the most load.

16 connections, new ones among them, nothing tried again. The most is measured first, with the same generator, the same
programs and both in the same process: it is the maximum of all this on this machine, not of the gateway. Run it alone:
``python -m bench changes``; BENCH_CHANGES says how many, if not a thousand.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.real.changing import Changing, changing
from tests.real.load import Load

CHANGES = int(os.environ.get("BENCH_CHANGES", "1000"))
CONNECTIONS = 16
PER_CONNECTION = 100
_SVID_TTL_SECONDS = 240
_MOST_SECONDS = 10.0
_ROUNDS = 3
_ROTATION_SECONDS = 300.0


def measure() -> Iterator[tuple[str, str, list[float]]]:
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        changing(Path(folder), "--svid-ttl", f"{_SVID_TTL_SECONDS}s") as mesh,
    ):
        most = [_most(mesh) for _ in range(_ROUNDS)]
        yield "the most, closed loop", "requests/s", most
        before = mesh.serials()
        took: dict[str, list[float]] = defaultdict(list)
        with _load(mesh, sorted(most)[_ROUNDS // 2] / 2) as load:
            for number in range(CHANGES):
                began = time.monotonic()
                what = mesh.change(number, seconds=60.0)
                took[what].append((time.monotonic() - began) * 1e3)
            changed = load.now
            while load.now < _ROTATION_SECONDS and before & mesh.serials():
                time.sleep(1.0)
            left = len(before & mesh.serials())
        yield from _rows(load)
        yield "successive changes", "", [float(CHANGES)]
        yield "of them took", "s", [changed]
        yield "certificates of the start", "", [float(len(before))]
        yield "certificates of the start still in use", "", [float(left)]
        for what, rounds in took.items():
            yield f"{what}, until seen to be in force", "ms", rounds


def _rows(load: Load) -> Iterator[tuple[str, str, list[float]]]:
    yield "requests sent", "", [float(load.sent)]
    yield "requests failed", "", [float(len(load.failures))]
    yield "load", "requests/s", [load.rate]
    yield "connections opened", "", [float(load.opened)]
    yield "slowest answer", "ms", [load.slowest * 1e3]
    for reason, count in load.reasons.items():
        yield f"failed: {reason}", "", [float(count)]


def _most(mesh: Changing) -> float:
    with _load(mesh, 1e6) as load:
        time.sleep(_MOST_SECONDS)
    return load.rate


def _load(mesh: Changing, rate: float) -> Load:
    return mesh.load(connections=CONNECTIONS, per_connection=PER_CONNECTION, rate=rate)
