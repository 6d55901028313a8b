"""Load on one address: requests one after the other in a few threads, each answer counted, nothing tried again."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections import Counter
from types import TracebackType


class Load:
    """Runs while its context is open. Every ``per_connection`` requests a thread begins a new connection."""

    def __init__(self, address: tuple[str, int], host: str, *, threads: int = 2, per_connection: int = 20) -> None:
        self._address = address
        self._host = host
        self._per_connection = per_connection
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()
        """By status, or by what broke the connection."""
        self.connections = 0
        self.seconds = 0.0

    @property
    def requests(self) -> int:
        return self.answers.total()

    @property
    def failures(self) -> dict[str, int]:
        return {what: count for what, count in self.answers.items() if what != "200"}

    def _run(self) -> None:
        while not self._ending.is_set():
            connection = http.client.HTTPConnection(*self._address, timeout=10)
            try:
                connection.connect()
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self.connections += 1
                for _ in range(self._per_connection):
                    connection.request("GET", "/", headers={"host": self._host})
                    answer = connection.getresponse()
                    answer.read()
                    self._count(str(answer.status))
                    if answer.will_close or self._ending.is_set():
                        break
            except (OSError, http.client.HTTPException) as failed:
                self._count(repr(failed))
            finally:
                connection.close()

    def _count(self, what: str) -> None:
        with self._lock:
            self.answers[what] += 1

    def __enter__(self) -> Load:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self.seconds = time.monotonic() - self._began
