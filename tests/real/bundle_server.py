"""A server of bundles with ETags, which takes decision logs as well."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class BundleServer:
    """``/NAME`` of :attr:`bundles`; ``POST /logs`` to :attr:`events`. ``token``: demanded of everybody."""

    def __init__(self, token: str | None = None) -> None:
        self.bundles: dict[str, bytes] = {}
        self.events: list[dict[str, Any]] = []
        self.token = token
        self.down = False
        """Answers 503."""
        self.holds = 0.0
        """Seconds for which a question for what is not there yet is held at most (OPA's long polling)."""
        self.tagged = True
        """Whether answers have an ETag."""
        self.answers: Counter[tuple[str, int]] = Counter()
        """By path and status."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> BundleServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"


def _tag(packed: bytes) -> str:
    return f'"{hashlib.sha256(packed).hexdigest()[:16]}"'


def _handler(server: BundleServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = server.bundles.get(self.path)
            if not self._let_in():
                return
            if found is None:
                self._answer(404)
                return
            known = self.headers.get("if-none-match")
            until = time.monotonic() + (server.holds if "wait=" in self.headers.get("prefer", "") else 0)
            while (tag := _tag(found)) == known and time.monotonic() < until:
                time.sleep(0.01)
                found = server.bundles[self.path]
            if known == tag:
                self._answer(304, tag=tag)
            else:
                self._answer(200, found, tag)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            if not self._let_in():
                return
            assert self.headers.get("content-encoding") == "gzip"
            server.events += json.loads(gzip.decompress(body))
            self._answer(200)

        def _let_in(self) -> bool:
            wanted = None if server.token is None else f"Bearer {server.token}"
            status = 503 if server.down else 401 if wanted not in (None, self.headers.get("authorization")) else 0
            if status:
                self._answer(status)
            return not status

        def _answer(self, status: int, body: bytes = b"", tag: str | None = None) -> None:
            server.answers[self.path, status] += 1
            self.send_response(status)
            if tag is not None and server.tagged:
                self.send_header("etag", tag)
            if server.holds:
                self.send_header("content-type", "application/vnd.openpolicyagent.bundles")
            if status != 304:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    return Handler
