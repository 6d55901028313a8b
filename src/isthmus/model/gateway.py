"""Gateways: what is open at the edge."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from isthmus.diag import Origin
from isthmus.model.client_headers import Resumption
from isthmus.model.client_traffic import (
    ANY_CERTIFICATE,
    NO_POLICY,
    ClientTraffic,
    ClientValidation,
    CompliancePolicy,
    TlsVersion,
)
from isthmus.model.revocation import StaplePolicy
from isthmus.model.traffic_policy import CertificateFiles


class ServerProtocol(Enum):
    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"


class ServerTlsMode(Enum):
    """Istio's ServerTLSSettings.TLSmode, of those that end TLS."""

    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    OPTIONAL_MUTUAL = "OPTIONAL_MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"

    @property
    def asks(self) -> bool:
        """Whether clients are asked for a certificate."""
        return self is not ServerTlsMode.SIMPLE

    @property
    def requires(self) -> bool:
        """Whether clients without a certificate are refused."""
        return self in (ServerTlsMode.MUTUAL, ServerTlsMode.ISTIO_MUTUAL)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """TLS of a server, as the Gateway and its ClientTrafficPolicy say together.

    ``certificates``: Secrets of the gateway's namespace, and files; none for ISTIO_MUTUAL, whose is the gateway's SVID.
    """

    mode: ServerTlsMode
    certificates: tuple[str | CertificateFiles, ...]
    ca_credential: str | None = None
    """The Secret whose ``ca.crt`` client certificates must come from."""
    minimum_version: TlsVersion = TlsVersion.TLSV1_2
    maximum_version: TlsVersion = TlsVersion.TLSV1_3
    cipher_suites: tuple[str, ...] = ()
    ca_file: str | None = None
    """The same, in a file of the proxy's machine; of modes that ask, one of the two is set, but for ISTIO_MUTUAL."""
    validation: ClientValidation = ANY_CERTIFICATE
    ecdh_curves: tuple[str, ...] = ()
    compliance: CompliancePolicy | None = None
    staple: StaplePolicy | None = None
    """Of the certificates in Secrets; None: nothing is stapled."""
    resumption: Resumption | None = None
    """None: nobody says; in both ways, then. Never where clients are asked for certificates."""

    @property
    def demand(self) -> tuple[object, ...] | None:
        """What clients must show before they may speak; None: nothing."""
        return (self.mode, self.ca_credential, self.ca_file, self.validation) if self.mode.asks else None

    @property
    def secrets(self) -> tuple[str, ...]:
        """The certificates that are in Secrets."""
        return tuple(one for one in self.certificates if isinstance(one, str))

    @property
    def files(self) -> tuple[CertificateFiles, ...]:
        return tuple(one for one in self.certificates if isinstance(one, CertificateFiles))


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
    client_traffic: ClientTraffic = NO_POLICY
    """What the ClientTrafficPolicy that holds here says; as far as it is of TLS, ``tls`` says it, too."""

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
    port_name: str = ""


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
