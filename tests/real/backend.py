"""A backend that tells what it saw: real HTTP, in a thread, on a port of the system's choice."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """How a backend answers."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    delay_seconds: float = 0.0


class Backend:
    """Answers every request with JSON of its method, path and headers; remembers them all.

    ``reply``: how, for what it saw; by default with 200, at once.
    """

    def __init__(self, name: str = "backend", reply: Callable[[dict[str, Any]], Reply] = lambda saw: Reply()) -> None:
        self.name = name
        self.seen: list[dict[str, Any]] = []
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length) if length else b""
                headers = [[name.lower(), value] for name, value in self.headers.items()]
                saw = {
                    "backend": backend.name,
                    "method": self.command,
                    "path": self.path,
                    "headers": headers,
                    "body": body.decode("latin-1"),
                }
                backend.seen.append(saw)
                content = json.dumps(saw).encode()
                how = reply(saw)
                if how.delay_seconds:
                    time.sleep(how.delay_seconds)
                self.send_response(how.status)
                for name, value in how.headers:
                    self.send_header(name, value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                # Who asked may have given up.
                with contextlib.suppress(ConnectionError):
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = do_HEAD = answer

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Backend:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def header(saw: dict[str, Any], name: str) -> str | None:
    """The header that a backend saw, or None; several values are joined by ``, ``."""
    values = [value for key, value in saw["headers"] if key == name.lower()]
    return ", ".join(values) if values else None
