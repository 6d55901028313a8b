"""Machines: network namespaces with an address of their own on one bridge, made and removed by the test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

EDGE = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
    - port: {number: 8080, name: http, protocol: HTTP}
      hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [edge]
"""
"""The gateway of a machine's own, and the VirtualService of its routes, which follow as ``http:``."""

ISTHMUS = (sys.executable, "-m", "isthmus")
_END_SECONDS = 60.0


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True)


def why_not() -> str | None:
    """Why this system has no namespaces for a test; None if it has."""
    if os.geteuid() != 0:
        return "machines of a test are network namespaces, which root makes"
    if shutil.which("ip") is None:
        return "iproute2's `ip` is not installed"
    probe = f"isthmus-probe-{os.getpid()}"
    made = subprocess.run(("ip", "netns", "add", probe), capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"no network namespace can be made here: {made.stderr.strip()}"
    _ip("netns", "delete", probe)
    return None


@dataclass
class Host:
    """One machine. What is started on it ends with it. Without a namespace: a folder of this one."""

    name: str
    namespace: str
    address: str
    folder: Path
    started: list[Program] = field(default_factory=list)

    def argv(self, *command: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.namespace, *command) if self.namespace else command

    def end(self) -> None:
        """Everything that still runs, all at once."""
        for program in self.started:
            if program.runs:
                program.process.send_signal(signal.SIGTERM)
        for program in self.started:
            try:
                program.process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                program.process.kill()
                program.process.wait()

    def start(self, name: str, *command: str, env: Mapping[str, str] | None = None) -> Program:
        program = Program(name, self.folder / f"{name}.log")
        with program.log.open("ab") as log:
            program.process = subprocess.Popen(
                self.argv(*command),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self.started.append(program)
        return program

    def isthmus(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Program:
        return self.start(name, *ISTHMUS, *arguments, env=env)

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One command to its end."""
        return subprocess.run(
            self.argv(*command),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=self.folder,
            input=stdin,
            env={**os.environ, **(env or {})},
        )

    def command(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run(*ISTHMUS, *arguments, **options)


class Program:
    """A program that runs on a machine; ``output`` is what it has printed."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.process: subprocess.Popen[bytes]

    @property
    def output(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def wait_for(self, file: Path, seconds: float = 180.0) -> None:
        """Until it has written ``file``."""
        deadline = time.monotonic() + seconds
        while not file.exists():
            assert self.runs, f"{self.name} ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"{self.name} was not ready in {seconds} s:\n{self.output}"
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.runs:
            self.process.send_signal(number)
        try:
            return self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} did not end:\n{self.output}") from None


class Lan:
    """A bridge with machines on it; the test itself is on it too, at ``address``."""

    def __init__(self, folder: Path, network: str) -> None:
        self._folder = folder
        self._network = network
        self._mark = f"{os.getpid() % 100000}"
        self._bridge = f"ib{self._mark}"
        self._hosts: list[Host] = []
        self.address = f"{network}.254"

    def open(self) -> None:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("address", "add", f"{self.address}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def host(self, name: str) -> Host:
        number = len(self._hosts) + 1
        namespace, inside, outside = (
            f"isthmus-{self._mark}-{name}",
            f"iv{self._mark}i{number}",
            f"iv{self._mark}o{number}",
        )
        folder = self._folder / name
        folder.mkdir(parents=True)
        made = Host(name, namespace, f"{self._network}.{number}", folder)
        self._hosts.append(made)
        _ip("netns", "add", namespace)
        _ip("link", "add", inside, "type", "veth", "peer", "name", outside)
        _ip("link", "set", outside, "master", self._bridge, "up")
        _ip("link", "set", inside, "netns", namespace)
        _ip("-n", namespace, "address", "add", f"{made.address}/24", "dev", inside)
        _ip("-n", namespace, "link", "set", inside, "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        return made

    def close(self) -> None:
        for host in self._hosts:
            for program in reversed(host.started):
                if program.runs:
                    program.process.send_signal(signal.SIGTERM)
        for host in self._hosts:
            for program in host.started:
                try:
                    program.process.wait(_END_SECONDS)
                except subprocess.TimeoutExpired:
                    program.process.kill()
                    program.process.wait()
        for host in self._hosts:
            subprocess.run(("ip", "netns", "delete", host.namespace), check=False, capture_output=True)
        subprocess.run(("ip", "link", "delete", self._bridge), check=False, capture_output=True)


@contextmanager
def lan(folder: Path) -> Iterator[Lan]:
    """Skips the test, with the reason, where there can be none."""
    reason = why_not()
    if reason is not None:
        if os.environ.get("ISTHMUS_TEST_SERVERS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    made = Lan(folder, _free_network())
    made.open()
    try:
        yield made
    finally:
        made.close()


def _free_network() -> str:
    """A /24 of the benchmarking range (RFC 2544) that this machine has no address in: other tests may run beside."""
    for number in range(os.getpid() % 200, os.getpid() % 200 + 50):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((f"198.18.{number}.254", 0))
            except OSError:
                return f"198.18.{number}"
    raise AssertionError("no free network")
