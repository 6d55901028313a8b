"""A real Redis on a port of its own, that tests end and start again."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from tests.real.servers import find_server
from tests.real.up import free_port

_SECONDS = 60.0


class RedisServer:
    """``password``: what its clients must know. What it held is lost when it ends."""

    def __init__(self, folder: Path, password: str = "open sesame") -> None:
        self._program = find_server("redis-server")
        self._cli = find_server("redis-cli")
        self._folder = folder
        self._password = password
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self._password.replace(' ', '%20')}@127.0.0.1:{self._port}/0"

    def start(self) -> None:
        written = f'bind 127.0.0.1\nport {self._port}\nrequirepass "{self._password}"\nsave ""\ndir {self._folder}\n'
        (self._folder / "redis.conf").write_text(written)
        log = (self._folder / "redis.log").open("ab")
        self._process = subprocess.Popen((str(self._program), str(self._folder / "redis.conf")), stdout=log, stderr=log)
        deadline = time.monotonic() + _SECONDS
        while self.run("ping") != "PONG":
            assert time.monotonic() < deadline, (self._folder / "redis.log").read_text()
            time.sleep(0.05)

    def run(self, *command: str) -> str:
        """One command, by Redis' own client."""
        argv = (str(self._cli), "-p", str(self._port), "--no-auth-warning", "-a", self._password, *command)
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stdout.strip()

    def hold(self) -> None:
        """It takes connections, and answers nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def let_go(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
