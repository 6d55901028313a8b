"""What a look at one server's TLS found: values without an opinion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from cryptography import x509

from isthmus.doctor.hello import Version


class Answer(Enum):
    """Of a TLS version that was tried."""

    SPOKEN = "spoken"
    REFUSED = "refused"
    NOT_TESTED = "not tested"
    """The library of this machine cannot speak it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A whole handshake and one request. ``error``: what ended it, in the library's or the server's words."""

    error: str = ""
    version: str = ""
    cipher: str = ""
    alpn: str = ""
    server_time_off: timedelta | None = None
    """The server's Date header less the clock of this machine; None: it sent none."""


@dataclass(frozen=True, slots=True)
class Own:
    """The client's certificate that was tried."""

    certificate: x509.Certificate
    key_fits: bool
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Observed:
    """``host``, ``port``: where; ``name``: the server name asked for (SNI), which its certificate is to have.

    ``unreachable``: why nothing could be asked; nothing else is known then. ``chain``: as the server sent it.
    ``wanted``: names of the CAs that a client's certificate may come from; None: none is asked for.
    ``trust``: why the chain is not believed; empty: it is. ``trusted_by``: whose roots were gone by.
    ``stranger``: the gateways of the state that was named have other certificates.
    """

    host: str
    port: int
    name: str
    unreachable: str = ""
    silent: bool = False
    """It took the connection, and within some seconds neither answered nor closed; nothing else is known then."""
    not_tls: str = ""
    versions: Mapping[Version, Answer] | None = None
    ciphers: tuple[str, ...] = ()
    """Of TLS 1.2, in the server's order."""
    chain: tuple[x509.Certificate, ...] = ()
    stapled: bool = False
    staple_seen: bool = False
    """Whether a staple could have been seen: in TLS 1.2 it stands in the clear."""
    wanted: tuple[str, ...] | None = None
    bare: Attempt = Attempt()
    """Without a client's certificate, believing everything."""
    trust: str = ""
    trusted_by: str = "the system's roots"
    own: Own | None = None
    stranger: bool = False
