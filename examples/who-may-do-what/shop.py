"""orders and payments: each says what it was told; orders asks payments before it says that a sum is approved."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = os.environ["NAME"]
PAYMENTS = "http://payments.shop.svc.cluster.local:8080"


def ask_payments(path: str, authorization: str) -> tuple[int, str]:
    """By the proxy of the environment, which urllib follows by itself; the user's token goes along."""
    request = urllib.request.Request(f"{PAYMENTS}{path}", b"", {"authorization": authorization})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(200, {"service": NAME, "path": self.path, "key": self.headers["x-api-key"]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"] or 0))
        if NAME == "payments":
            self.answer(200, {"service": NAME, "path": self.path})
            return
        status, told = ask_payments(f"/transfers{self.path.partition('?')[0]}", self.headers["authorization"] or "")
        self.answer(status, {"service": NAME, "path": self.path, "payments": told})

    def answer(self, status: int, told: dict[str, object]) -> None:
        body = f"{json.dumps(told)}\n".encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The proxies keep the access logs."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
