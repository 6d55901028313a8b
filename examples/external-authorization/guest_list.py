"""Who may come in: 200 lets a request pass, everything else is the answer that its sender gets."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TABLES = {"carol": "3", "dave": "7"}


class GuestList(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def decide(self) -> None:
        # The method and path are those of the request that is asked about.
        table = TABLES.get(self.headers.get("x-guest", ""))
        if table is not None:
            self.answer(200, b"", {"x-table": table})
        else:
            self.answer(403, b"not on the list\n", {"x-reason": "not-invited", "content-type": "text/plain"})

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = decide

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The proxies log."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), GuestList).serve_forever()
