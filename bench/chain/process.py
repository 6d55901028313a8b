"""Processes under measurement: their processor time, and the load that is put on them."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROXY_CPU, LOAD_CPU = 0, 1
"""Proxies on one processor, the load and the program behind them on another: the same for every chain."""


def pinned(cpu: int, *argv: str) -> tuple[str, ...]:
    return ("taskset", "-c", str(cpu), *argv) if shutil.which("taskset") else argv


def cpu_nanoseconds(pids: Iterable[int]) -> int:
    """Time on a processor of all threads of ``pids`` (proc_pid_schedstat: the first field)."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                total += int((thread / "schedstat").read_text().split()[0])
    return total


def resident_kib(pids: Iterable[int]) -> int:
    """Memory of ``pids``, of which shared pages count in each."""
    found = (re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()) for pid in pids)
    return sum(int(match[1]) for match in found if match)


def until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens. Raises RuntimeError if the process ends before."""
    import socket

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen on {port}")


@dataclass(frozen=True)
class Load:
    """One run of wrk: a closed loop, so that its rate is the most that the chain can do."""

    requests: int
    seconds: float
    failed: int
    p50_ms: float
    p99_ms: float


_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def wrk(url: str, headers: Sequence[str], connections: int, seconds: float) -> Load:
    """Raises RuntimeError if wrk says nothing that can be read."""
    argv = pinned(LOAD_CPU, "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency")
    for header in headers:
        argv = (*argv, "-H", header)
    told = subprocess.run((*argv, url), capture_output=True, text=True, check=True).stdout
    done = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", told)
    if done is None:
        raise RuntimeError(told)
    failed = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", told))
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", told)
    failed += sum(map(int, errors.groups())) if errors else 0
    return Load(int(done[1]), seconds, failed, _latency(told, "50%"), _latency(told, "99%"))


def _latency(told: str, percentile: str) -> float:
    found = re.search(rf"{percentile}\s+([\d.]+)(us|ms|s)", told)
    return float(found[1]) * _UNITS[found[2]] if found else float("nan")


_TOLD = """\
done = function(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("told %d %d\\n", summary.requests, failed))
end
"""


def scripted(url: str, request: str, connections: int, seconds: int, folder: Path, *headers: str) -> int:
    """How many requests wrk sent that ``request`` (Lua: a function of that name) makes, each other than the last.

    Raises RuntimeError unless every one of them was answered well.
    """
    script = folder / "requests.lua"
    script.write_text(request + _TOLD)
    argv = pinned(LOAD_CPU, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script))
    for header in headers:
        argv = (*argv, "-H", header)
    output = subprocess.run((*argv, url), capture_output=True, text=True, check=True).stdout
    _, requests, failed = next(line.split() for line in output.splitlines() if line.startswith("told "))
    if int(failed) or not int(requests):
        raise RuntimeError(f"{failed} of {requests} requests failed")
    return int(requests)


def paced(url: str, headers: Sequence[str], rate: int, seconds: int, log: Path) -> list[float]:
    """Latencies in ms at a fixed rate, by h2load over HTTP/1.1: what users see below the most that a chain can do.

    h2load measures from when it sends, not from when it meant to: honest only while the chain keeps up, which the
    number of answers shows.
    """
    clients = max(1, rate // 50)
    argv = pinned(LOAD_CPU, "h2load", "--h1", "-t1", f"-c{clients}", "--rps=50", f"-D{seconds}", "--log-file", str(log))
    for header in headers:
        argv = (*argv, "-H", header)
    subprocess.run((*argv, url), capture_output=True, check=True)
    rows = [line.split() for line in log.read_text().splitlines()]
    log.unlink()
    return [int(taken) / 1e3 for _, status, taken in rows if status == "200"]
