"""Requests that no client sends by itself, byte by byte, over HTTP/1 and HTTP/2."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, ResponseReceived, StreamEnded, StreamReset

_SECONDS = 30


def said(address: tuple[str, int], raw: bytes, context: ssl.SSLContext | None = None, name: str | None = None) -> bytes:
    """What a server answers to exactly these bytes: at least the head of one answer, unless it closes before."""
    found = b""
    with socket.create_connection(address, _SECONDS) as plain:
        there = plain if context is None else context.wrap_socket(plain, server_hostname=name)
        there.sendall(raw)
        there.settimeout(_SECONDS)
        with suppress(OSError):
            while b"\r\n\r\n" not in found and (data := there.recv(65536)):
                found += data
    return found


def status_of(answer: bytes) -> int:
    """0: there was none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def h2_status(address: tuple[str, int], context: ssl.SSLContext, name: str, headers: Sequence[tuple[str, str]]) -> int:
    """The status of one request of exactly these headers; 0: the stream, or the connection, is closed instead."""
    context.set_alpn_protocols(["h2"])
    loose = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    connection = H2Connection(loose)
    connection.initiate_connection()
    connection.send_headers(1, headers, end_stream=True)
    status = 0
    with socket.create_connection(address, _SECONDS) as plain:
        there = context.wrap_socket(plain, server_hostname=name)
        there.sendall(connection.data_to_send())
        while data := there.recv(65536):
            for event in connection.receive_data(data):
                match event:
                    case ResponseReceived():
                        found = {bytes(key): bytes(value) for key, value in event.headers or ()}
                        status = int(found[b":status"])
                    case StreamEnded() | StreamReset() | ConnectionTerminated():
                        return status
            there.sendall(connection.data_to_send())
    return status
