"""CONNECT, by hand: a socket through a workload's proxy."""

from __future__ import annotations

import base64
import http.client
import socket
from urllib.parse import urlsplit


class Refused(Exception):
    """The proxy's answer to a CONNECT was not 200."""

    def __init__(self, status: int, headers: dict[str, str], body: str) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.headers = headers
        self.body = body


def connect(proxy: str, authority: str, *, timeout: float = 20, credential: str | None = None) -> socket.socket:
    """A socket to ``authority`` through the proxy at ``proxy`` (``http://user:password@address``).

    ``credential``: what to send in place of the URL's; empty: nothing. Raises Refused.
    """
    url = urlsplit(proxy)
    assert url.hostname is not None
    there = socket.create_connection((url.hostname, url.port), timeout)
    wanted = f"{url.username}:{url.password}" if credential is None else credential
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if wanted:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(wanted.encode()).decode()}")
    there.sendall("\r\n".join((*lines, "", "")).encode())
    answer = http.client.HTTPResponse(there, method="CONNECT")
    answer.begin()
    if answer.status != 200:
        headers = {name.lower(): value for name, value in answer.getheaders()}
        answer.length = int(headers.get("content-length", "0"))
        body = answer.read().decode()
        there.close()
        raise Refused(answer.status, headers, body)
    return there


def exchange(there: socket.socket, line: bytes) -> bytes:
    """Send ``line`` and take the line that comes back; nothing if the other side closes."""
    found = b""
    try:
        there.sendall(line)
        while not found.endswith(b"\n"):
            more = there.recv(65536)
            if not more:
                return b""
            found += more
    except (ConnectionResetError, BrokenPipeError):
        return b""
    return found


def get(there: socket.socket, host: str, path: str = "/", **headers: str) -> tuple[int, str]:
    """One HTTP/1.1 request on ``there``: status and body. The socket can be used again."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    there.sendall("\r\n".join((*lines, "", "")).encode())
    answer = http.client.HTTPResponse(there)
    answer.begin()
    return answer.status, answer.read().decode()
