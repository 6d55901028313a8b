"""``isthmus up`` as a user runs it: a process, manifests in a folder, a ready file."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from isthmus.jwks.signing import public_key_set
from isthmus.jwks.store import load_signing_key
from isthmus.state import StateDir

ISTHMUS = (sys.executable, "-m", "isthmus")
_READY_SECONDS = 180.0
_END_SECONDS = 60.0
_LOWEST_PORT, _PORTS_OF_A_WORKER = 10_000, 1_000
_chance = random.SystemRandom()
_tried = itertools.count(_chance.randrange(_PORTS_OF_A_WORKER))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has, and that nobody is given meanwhile.

    The system lends ports above 32,767, Isthmus takes those above 20,000; below, each worker of pytest has its own, and
    none twice before it had all.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 5
    for _ in range(_PORTS_OF_A_WORKER):
        port = _LOWEST_PORT + worker * _PORTS_OF_A_WORKER + next(_tried) % _PORTS_OF_A_WORKER
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def isthmus(*arguments: str, cwd: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        (*ISTHMUS, *arguments), cwd=cwd, input=stdin, capture_output=True, text=True, timeout=120, check=False
    )


class Up:
    """A running mesh. ``ready`` is the ready document; ``output`` what it has printed so far."""

    def __init__(
        self,
        folder: Path,
        manifests: Mapping[str, str],
        *options: str,
        env: Mapping[str, str] | None = None,
        through: tuple[str, ...] = (),
        ready_seconds: float = _READY_SECONDS,
    ) -> None:
        """``through``: a command that runs another command, for a system that is different from this one."""
        self._ready_seconds = ready_seconds
        self.folder = folder
        self.manifests = folder / "manifests"
        self.state = folder / "state"
        self._options = options
        self._through = through
        self._env = {**os.environ, **(env or {})}
        self._ready_file = folder / "ready.json"
        self._log = folder / "up.log"
        self.ready: dict[str, Any] = {}
        self.manifests.mkdir(parents=True, exist_ok=True)
        for name, text in manifests.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        """Write a manifest whole, as an editor does: to another name, then renamed."""
        temporary = self.manifests / f".{name}.new"
        temporary.write_text(text)
        temporary.replace(self.manifests / name)

    def remove(self, name: str) -> None:
        (self.manifests / name).unlink()

    @property
    def output(self) -> str:
        return self._log.read_text()

    def start(self) -> Up:
        self._ready_file.unlink(missing_ok=True)
        argv = [
            *self._through,
            *ISTHMUS,
            "up",
            str(self.manifests),
            "--state",
            str(self.state),
            "--ready-file",
            str(self._ready_file),
        ]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                (*argv, *self._options), stdout=log, stderr=log, cwd=self.folder, env=self._env
            )
        deadline = time.monotonic() + self._ready_seconds
        while not self._ready_file.exists():
            if self.process.poll() is not None:
                raise AssertionError(f"isthmus up ended with {self.process.returncode}:\n{self.output}")
            if time.monotonic() > deadline:
                self.stop(signal.SIGKILL)
                raise AssertionError(f"isthmus up was not ready in {self._ready_seconds} s:\n{self.output}")
            time.sleep(0.05)
        self.ready = json.loads(self._ready_file.read_text())
        return self

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"isthmus up did not end:\n{self.output}") from None

    def __enter__(self) -> Up:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def gateway(self, declared: int, name: str | None = None) -> tuple[str, int]:
        """Where a gateway's declared port is open."""
        for gateway in self.ready["gateways"]:
            for listener in gateway["listeners"]:
                if listener["declared_port"] == declared and name in (None, gateway["name"]):
                    host, _, port = listener["address"].rpartition(":")
                    return host, int(port)
        raise AssertionError(f"no gateway port {declared} in {self.ready['gateways']}")

    def workload(self, name: str) -> dict[str, Any]:
        return next(workload for workload in self.ready["workloads"] if workload["name"] == name)

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ready["ca_bundle"])

    def client(self) -> httpx.Client:
        """Trusts the mesh's root. Retries nothing."""
        return httpx.Client(verify=self.trust(), timeout=20, trust_env=False)

    def get(self, url: str, **options: Any) -> httpx.Response:
        with self.client() as client:
            return self.send(client, "GET", url, **options)

    def send(self, client: httpx.Client, method: str, url: str, **options: Any) -> httpx.Response:
        """A request to ``scheme://host[:declared port]/path``, sent to where that port is really open."""
        wanted = httpx.URL(url)
        declared = wanted.port or {"https": 443, "http": 80}[wanted.scheme]
        address, port = self.gateway(declared)
        headers = httpx.Headers(options.pop("headers", {}))
        headers.setdefault("host", f"{wanted.host}:{port}")
        extensions = {"sni_hostname": wanted.host}
        there = wanted.copy_with(host=address, port=port)
        return client.request(method, there, headers=headers, extensions=extensions, **options)

    def token(self, issuer: str, *, expires: str = "1h", sub: str = "alice", **claims: object) -> str:
        """A token by the state's development key."""
        arguments = ["token", "--state", str(self.state), "--issuer", issuer, "--sub", sub, f"--expires={expires}"]
        for name, value in claims.items():
            text = value if isinstance(value, str) else json.dumps(value)
            arguments += ["--claim", f"{name}={text}"]
        made = isthmus(*arguments)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def access_log(self, proxy_id: str) -> list[dict[str, Any]]:
        lines = whole_lines(self.state / "log" / f"{proxy_id}.access.log")
        return [json.loads(line) for line in lines if line.startswith("{")]


def whole_lines(log: Path) -> list[str]:
    """Of a log that is being written to: the last line may be half there."""
    return log.read_text().rpartition("\n")[0].splitlines()


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below a folder in which files come and go."""
    for parent, _, names in os.walk(folder):
        for name in names:
            file = Path(parent) / name
            with contextlib.suppress(OSError):
                if file.is_file():
                    yield file, file.read_bytes()


def development_jwks(state: Path, file: Path) -> Path:
    """The public keys of the state's development key, for ``--jwks``: as ``isthmus token --jwks`` prints them."""
    key = load_signing_key(StateDir.at(state).open().path / "tokens")
    file.write_text(public_key_set(key).text)
    return file


def eventually(check: Any, seconds: float = 40.0, every: float = 0.05) -> Any:
    """The first true answer of ``check``; what it raises last if it never gives one.

    ``seconds`` is for a machine that is slow and busy: it costs nothing where it is not needed.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = check()
            if answer:
                return answer
        except (AssertionError, httpx.HTTPError, OSError, ValueError):
            if time.monotonic() > deadline:
                raise
        else:
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {check}")
        time.sleep(every)


def children_of(pid: int) -> list[int]:
    """Living descendants, by /proc."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in (Path("/proc") / str(pid) / "task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *children_of(int(child))]
    return found


def arguments_of(pid: int) -> list[str]:
    """The command line of a process; none if it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().decode().split("\0")
    return []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
