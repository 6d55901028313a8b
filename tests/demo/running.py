"""The demo's programs as ``isthmus demo`` runs them: processes that listen on a port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import TracebackType

import httpx

from tests.real.up import free_port

_START_SECONDS = 120.0
_END_SECONDS = 60.0


class Program:
    """``python -m ...`` that listens on :attr:`port`, without any proxy of the environment."""

    def __init__(self, *arguments: str, **env: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._arguments = arguments
        self._env = env

    def __enter__(self) -> Program:
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        env = {**kept, "PORT": str(self.port), **self._env}
        argv = (sys.executable, "-m", *self._arguments)
        self.process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        give_up = time.monotonic() + _START_SECONDS
        while True:
            try:
                httpx.get(f"{self.url}/health", trust_env=False, verify=False, timeout=10)
                return self
            except httpx.TransportError:
                if self.process.poll() is not None or time.monotonic() > give_up:
                    self.process.kill()
                    raise AssertionError(self.process.communicate()[0]) from None
                time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> float:
        """SIGTERM; how many seconds it then took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=_END_SECONDS)
        return time.monotonic() - began
