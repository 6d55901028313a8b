"""Leaf, intermediate and root replaced through gateway and sidecar, at half of the most load; identities made anew.

16 connections, new ones among them, nothing tried again; the most is measured first, with the same generator. Run it
alone: ``python -m bench rotations``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.real.changing import Changing, changing
from tests.real.load import Load
from tests.real.up import eventually, isthmus

from isthmus.identity.authority import Authority, create_intermediate, create_root
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.validate import read_csr
from isthmus.proxy.credential import certificate, request_for_identity

CONNECTIONS = 16
PER_CONNECTION = 100
IDENTITIES = 1_000
_SVID_TTL_SECONDS = 120
_MOST_SECONDS = 10.0
_SETTLE_SECONDS = 5.0
_ROUNDS = 3
_LONG = 300.0


def measure() -> Iterator[tuple[str, str, list[float]]]:
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        changing(Path(folder), "--svid-ttl", f"{_SVID_TTL_SECONDS}s") as mesh,
    ):
        most = [_most(mesh) for _ in range(_ROUNDS)]
        yield "the most, closed loop", "requests/s", most
        half = sorted(most)[_ROUNDS // 2] / 2
        for what, rotate in (("leaf", _leaves), ("intermediate", _intermediate), ("root", _root)):
            with _load(mesh, half) as load:
                time.sleep(_SETTLE_SECONDS)
                began = time.monotonic()
                rotate(mesh)
                took = time.monotonic() - began
                time.sleep(_SETTLE_SECONDS)
            yield from _rows(what, load, took)
    yield from _issue()


def _rows(what: str, load: Load, took: float) -> Iterator[tuple[str, str, list[float]]]:
    yield f"{what}: took", "s", [took]
    yield f"{what}: requests sent", "", [float(load.sent)]
    yield f"{what}: requests failed", "", [float(len(load.failures))]
    yield f"{what}: load", "requests/s", [load.rate]
    yield f"{what}: connections opened", "", [float(load.opened)]
    yield f"{what}: slowest answer", "ms", [load.slowest * 1e3]


def _until_new(mesh: Changing) -> None:
    before = mesh.serials()
    eventually(lambda: not before & mesh.serials(), _LONG, every=0.5)


def _leaves(mesh: Changing) -> None:
    """Every certificate at half of its life."""
    _until_new(mesh)


def _intermediate(mesh: Changing) -> None:
    """Certificates follow at their own pace."""
    _ca(mesh, "rotate", "--intermediate")
    _until_new(mesh)


def _root(mesh: Changing) -> None:
    """Prepared, trusted by all, activated, every certificate made anew; then the old root is trusted no more."""
    before = mesh.serials()
    _ca(mesh, "rotate")
    eventually(lambda: not before & mesh.serials(), _LONG, every=0.5)
    # The node's own certificate, which the agent speaks to the control plane with, follows as fast.
    time.sleep(_SETTLE_SECONDS * 3)
    _ca(mesh, "rotate", "--revoke-old", "--force")


def _ca(mesh: Changing, *arguments: str) -> None:
    ran = isthmus("ca", *arguments, "--state", str(mesh.up.state))
    assert ran.returncode == 0, ran.stderr


def _most(mesh: Changing) -> float:
    with _load(mesh, 1e6) as load:
        time.sleep(_MOST_SECONDS)
    return load.rate


def _load(mesh: Changing, rate: float) -> Load:
    return mesh.load(connections=CONNECTIONS, per_connection=PER_CONNECTION, rate=rate)


def _issue() -> Iterator[tuple[str, str, list[float]]]:
    """1,000 identities: what the agents do (key, request, reading the answer), and what the authority does."""
    now = datetime.now(UTC)
    root, root_key = create_root("cluster.local", now)
    intermediate, key = create_intermediate("cluster.local", root, root_key, now)
    authority = Authority("cluster.local", root, (intermediate,), key)
    ids = [SpiffeId.workload("cluster.local", "bench", f"workload-{number}") for number in range(IDENTITIES)]
    walls, agents, signing = [], [], []
    for _ in range(_ROUNDS):
        wall, began = time.monotonic(), time.process_time()
        requests = [request_for_identity(spiffe_id.uri) for spiffe_id in ids]
        asked = time.process_time()
        answers = [
            authority.issue(read_csr(request.csr_pem.encode()), spiffe_id, timedelta(hours=1), now).chain
            for spiffe_id, request in zip(ids, requests, strict=True)
        ]
        answered = time.process_time()
        roots = "".join(authority.bundle.roots)
        for request, chain in zip(requests, answers, strict=True):
            certificate(request.key_pem, [*chain, roots])
        agents.append(asked - began + time.process_time() - answered)
        signing.append(answered - asked)
        walls.append(time.monotonic() - wall)
    yield f"{IDENTITIES} identities made anew, on one core", "s", walls
    yield "of it, processor of the agents", "s", agents
    yield "of it, processor of the authority", "s", signing
