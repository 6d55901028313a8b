"""Gateway and sidecar against a direct call, one plain Envoy, and HAProxy or nginx before the same sidecar."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx

from bench.chain.config import Level
from bench.chain.contender import Contender, running
from bench.chain.process import cpu_nanoseconds, paced, resident_kib, wrk

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "10"))
SECONDS = 3.0
CONNECTIONS = 16
NEEDED = ("wrk", "h2load", "nginx", "haproxy", "taskset")


def measure() -> Iterator[tuple[str, str, list[float]]]:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        print(f"  not measured: {', '.join(missing)} not installed", file=sys.stderr)
        return
    for level in Level:
        with tempfile.TemporaryDirectory() as folder, running(level, Path(folder)) as contenders:
            check(level, contenders)
            yield from _level(level, contenders, Path(folder))


def check(level: Level, contenders: tuple[Contender, ...]) -> None:
    """Nobody is measured who does not do the work: bad requests have to be refused. Raises RuntimeError."""
    for one in contenders:
        headers = dict(header.split(": ", 1) for header in one.headers)
        wanted = {"as measured": (one.url, headers, {200})}
        if level >= Level.TOKEN and headers:
            wanted["no token"] = (one.url, {}, {401, 403})
            wanted["bad token"] = (one.url, {"Authorization": f"{headers['Authorization'][:-6]}AAAAAA"}, {401})
        if level >= Level.POLICY and headers:
            wanted["other path"] = (f"{one.url.removesuffix('/app')}/other", headers, {403})
        for what, (url, sent, statuses) in wanted.items():
            # Each over a connection of its own: some close theirs after a refusal.
            status = httpx.get(url, headers=sent, verify=False, trust_env=False).status_code
            if status not in statuses:
                raise RuntimeError(f"{one.name}, {level.words}: {what} is answered with {status}")


def _level(level: Level, contenders: tuple[Contender, ...], folder: Path) -> Iterator[tuple[str, str, list[float]]]:
    rates: dict[str, list[float]] = {one.name: [] for one in contenders}
    costs: dict[str, list[float]] = {one.name: [] for one in contenders}
    for number in range(ROUNDS):
        # There and back again: what drifts with time meets all alike.
        for one in contenders if number % 2 == 0 else contenders[::-1]:
            before = cpu_nanoseconds(one.proxies)
            load = wrk(one.url, one.headers, CONNECTIONS, SECONDS)
            if load.failed:
                raise RuntimeError(f"{one.name}: {load.failed} of {load.requests} requests failed")
            rates[one.name].append(load.requests / load.seconds)
            costs[one.name].append((cpu_nanoseconds(one.proxies) - before) / load.requests / 1e3)
    name = f"level {level.value} ({level.words})"
    for one in contenders:
        yield f"{name}: {one.name}, {CONNECTIONS} connections", "requests/s", rates[one.name]
        if one.proxies:
            yield f"{name}: {one.name}, proxies' CPU", "us/request", costs[one.name]
            ratios = [cost / unit for cost, unit in zip(costs[one.name], costs["one plain Envoy"], strict=True)]
            yield f"{name}: {one.name}, CPU of one plain Envoy hop", "ratio", ratios
            yield f"{name}: {one.name}, proxies' memory", "MiB", [resident_kib(one.proxies) / 1024]
    rate = int(min(statistics.median(rates[one.name]) for one in contenders) / 2)
    yield from _latencies(name, contenders, rate, folder)


def _latencies(
    name: str, contenders: tuple[Contender, ...], rate: int, folder: Path
) -> Iterator[tuple[str, str, list[float]]]:
    """At half of what the slowest can do, the same for all."""
    found: dict[str, list[list[float]]] = {one.name: [] for one in contenders}
    for _ in range(max(2, ROUNDS // 3)):
        for one in contenders:
            found[one.name].append(paced(one.url, one.headers, rate, int(SECONDS), folder / "paced.log"))
    for one in contenders:
        for percentile in (50, 90, 99):
            cut = [statistics.quantiles(latencies, n=100)[percentile - 1] for latencies in found[one.name]]
            yield f"{name}: {one.name}, p{percentile} at {rate} requests/s", "ms", cut
        answered = [len(latencies) / (rate * SECONDS) for latencies in found[one.name]]
        yield f"{name}: {one.name}, answered of what was meant to be sent", "ratio", answered
