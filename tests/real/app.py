"""A program of a test's machine: ``python app.py PORT NAME`` answers on 127.0.0.1 with JSON of what it saw.

``/unwell`` is answered with 503 while the file ``unwell`` stands beside it. The standard library alone.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

port, name = int(sys.argv[1]), sys.argv[2]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        headers = [[key.lower(), value] for key, value in self.headers.items()]
        body = json.dumps({"name": name, "path": self.path, "headers": headers}).encode()
        unwell = self.path == "/unwell" and Path("unwell").exists()
        self.send_response(503 if unwell else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


Server(("127.0.0.1", port), Handler).serve_forever()
