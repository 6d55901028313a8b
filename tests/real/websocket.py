"""WebSocket (RFC 6455) as far as a test needs it: text frames under 126 bytes, one at a time."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import os
import socket
import socketserver
import threading
from typing import BinaryIO

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE = 0x1, 0x8


def _accept(key: str) -> str:
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


def _frame(opcode: int, data: bytes, *, masked: bool) -> bytes:
    assert len(data) < 126
    head = bytes([0x80 | opcode, len(data) | (0x80 if masked else 0)])
    if not masked:
        return head + data
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


def _read(stream: BinaryIO) -> tuple[int, bytes] | None:
    head = stream.read(2)
    if len(head) < 2:
        return None
    length = head[1] & 0x7F
    mask = stream.read(4) if head[1] & 0x80 else bytes(4)
    data = stream.read(length)
    return head[0] & 0xF, bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


class Refused(Exception):
    """The answer was no 101."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class WebSocket:
    """A client. Raises Refused if the server does not switch."""

    def __init__(self, there: socket.socket, host: str, path: str = "/", **headers: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        there.sendall("\r\n".join((*lines, "", "")).encode())
        self._there = there
        self._stream = there.makefile("rb")
        status = int(self._stream.readline().split()[1])
        answer = http.client.parse_headers(self._stream)
        if status != 101:
            raise Refused(status)
        assert answer["sec-websocket-accept"] == _accept(key)

    def ask(self, text: str) -> str | None:
        """What comes back for ``text``; None if the other side has gone."""
        try:
            self._there.sendall(_frame(_TEXT, text.encode(), masked=True))
            found = _read(self._stream)
        except (ConnectionError, BrokenPipeError):
            return None
        return None if found is None or found[0] == _CLOSE else found[1].decode()


class Server:
    """Echoes text; remembers the headers of every handshake."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        seen = self.seen

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    self.rfile.readline()
                    headers = {name.lower(): value for name, value in http.client.parse_headers(self.rfile).items()}
                    seen.append(headers)
                    if headers.get("upgrade", "").lower() != "websocket":
                        self.wfile.write(b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n\r\n")
                        return
                    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
                    lines.append(f"Sec-WebSocket-Accept: {_accept(headers['sec-websocket-key'])}")
                    self.wfile.write("\r\n".join((*lines, "", "")).encode())
                    while (found := _read(self.rfile)) is not None and found[0] != _CLOSE:
                        self.wfile.write(_frame(_TEXT, found[1], masked=False))

        class Listener(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Listener(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
