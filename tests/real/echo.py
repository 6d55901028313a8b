"""Servers of plain connections: each says its name first or echoes what it is told; with TLS of its own if wanted."""

from __future__ import annotations

import contextlib
import socketserver
import ssl
import threading
from typing import Any


class Echo:
    """Answers each line with ``<name>:<line>``; counts its connections."""

    def __init__(self, name: str = "echo", tls: ssl.SSLContext | None = None) -> None:
        self.name = name
        self.connections = 0
        echo = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                echo.connections += 1
                with contextlib.suppress(OSError):
                    for line in self.rfile:
                        self.wfile.write(echo.name.encode() + b":" + line)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

            def get_request(self) -> tuple[Any, Any]:
                there, address = super().get_request()
                return (
                    (tls.wrap_socket(there, server_side=True, do_handshake_on_connect=False), address)
                    if tls
                    else (
                        there,
                        address,
                    )
                )

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a handshake that its client broke off

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Echo:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
