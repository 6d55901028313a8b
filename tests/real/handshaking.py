"""Clients whose TLS handshakes go wrong, each in its way."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import warnings
from pathlib import Path

from tests.real.pki import Leaf

Place = tuple[str, int]
_SECONDS = 60.0


def context(
    trusted: bytes,
    own: Leaf | None = None,
    folder: Path | None = None,
    newest: ssl.TLSVersion | None = None,
    ciphers: str = "",
) -> ssl.SSLContext:
    """A client that trusts ``trusted`` (PEM) and checks no name. ``own`` is written into ``folder``."""
    made = ssl.create_default_context(cadata=trusted.decode())
    made.check_hostname = False
    if own is not None:
        assert folder is not None
        made.load_cert_chain(own.written(folder, f"client-{own.certificate.serial_number:x}"))
    if newest is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            made.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            made.maximum_version = newest
        made.set_ciphers("ALL:@SECLEVEL=0")
    if ciphers:
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers(ciphers)
    return made


def shakes_hands(place: Place, by: ssl.SSLContext, name: str, source: str = "127.0.0.1") -> bool:
    """Whether a request over TLS is answered; in TLS 1.3 a refusal of the certificate comes after the handshake."""
    return answered(place, by, name, source) is not None


def answered(place: Place, by: ssl.SSLContext, name: str, source: str = "127.0.0.1") -> int | None:
    """The status of the answer to a request over TLS; None: there is none."""
    try:
        with (
            _connected(place, source) as plain,
            by.wrap_socket(plain, server_hostname=name) as secured,
        ):
            secured.sendall(f"GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n".encode())
            found = re.match(rb"HTTP/1\.1 (\d+) ", secured.recv(64))
            return int(found[1]) if found else None
    except OSError:
        return None


def _connected(place: Place, source: str) -> socket.socket:
    """Nagle's algorithm would hold the request back until the handshake's end is acknowledged: 40 ms."""
    made = socket.create_connection(place, _SECONDS, (source, 0))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def says(place: Place, data: bytes, source: str = "127.0.0.1", *, leaves: bool = False) -> None:
    """``data`` instead of a handshake, until the server closes. ``leaves``: the client says at once that it is done."""
    with contextlib.suppress(OSError), socket.create_connection(place, _SECONDS, (source, 0)) as plain:
        plain.sendall(data)
        if leaves:
            plain.shutdown(socket.SHUT_WR)
        while plain.recv(4096):
            pass


def hello(name: str) -> bytes:
    """A ClientHello for ``name``."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
