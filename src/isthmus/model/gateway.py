"""Gateways: what is open at the edge."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from isthmus.diag import Origin


class ServerProtocol(Enum):
    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"


class ServerTlsMode(Enum):
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"


class TlsVersion(Enum):
    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


@dataclass(frozen=True, slots=True)
class ServerTls:
    """TLS of a server. ``credential`` names a Secret of the gateway's namespace; its CA is in ``ca_credential``."""

    mode: ServerTlsMode
    credential: str
    ca_credential: str | None
    """For MUTUAL: the credential whose ``ca.crt`` client certificates must come from."""
    minimum_version: TlsVersion = TlsVersion.TLSV1_2
    maximum_version: TlsVersion = TlsVersion.TLSV1_3
    cipher_suites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerHost:
    """A host of a server, with the namespace of the VirtualServices that may bind to it (None: any)."""

    name: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Server:
    port: int
    port_name: str
    protocol: ServerProtocol
    hosts: tuple[ServerHost, ...]
    tls: ServerTls | None
    https_redirect: bool
    origin: Origin
    bind: str | None = None
    passthrough: bool = False
    """TLS goes through as it came, by its server name: ``tls`` is None, as there is nothing to end."""

    @property
    def secured(self) -> bool:
        """Whether clients speak TLS to it."""
        return self.tls is not None or self.passthrough

    @property
    def is_http(self) -> bool:
        """Whether requests are what it takes; else connections."""
        return not self.passthrough and self.protocol not in (ServerProtocol.TLS, ServerProtocol.TCP)


@dataclass(frozen=True, slots=True)
class ClosedServer:
    """A server with TLS that is not opened: nobody else on its port may answer for its hosts either."""

    port: int
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A Gateway resource; the gateway proxies whose labels match ``selector`` carry its servers."""

    name: str
    namespace: str
    selector: tuple[tuple[str, str], ...]
    servers: tuple[Server, ...]
    origin: Origin
    closed: tuple[ClosedServer, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


def narrower_host(left: str, right: str) -> str | None:
    """What two hosts have in common, each ``*``, ``*.suffix`` or a name: the more specific one, or None."""
    for wide, narrow in ((left, right), (right, left)):
        if wide in ("*", narrow) or (wide.startswith("*.") and narrow.removeprefix("*").endswith(wide[1:])):
            return narrow
    return None
