"""What a ClientTrafficPolicy says of clients' connections to a gateway's server."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from isthmus.diag import Origin
from isthmus.model.client_headers import USUAL_HEADERS, ClientHeaders, HealthCheck, Resumption
from isthmus.model.handshake import FailedHandshakes
from isthmus.model.match import Exact, Prefix, Regex, Suffix
from isthmus.model.revocation import ClientOcsp, CrlPoints, StaplePolicy


class TlsVersion(Enum):
    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


class CompliancePolicy(Enum):
    """Envoy's TlsParameters.CompliancePolicy: each fixes versions, cipher suites, curves and signatures."""

    FIPS_202205 = "FIPS_202205"
    CNSA1_202603 = "CNSA1_202603"
    CNSA2_202603 = "CNSA2_202603"


class SanType(Enum):
    DNS = "DNS"
    URI = "URI"
    EMAIL = "EMAIL"
    IP_ADDRESS = "IP_ADDRESS"
    OTHER_NAME = "OTHER_NAME"


@dataclass(frozen=True, slots=True)
class Wildcard:
    """``*.internal.corp``: any one label in the place of the star, of a certificate that itself has none."""

    value: str


@dataclass(frozen=True, slots=True)
class SanMatch:
    """One subject alternative name that a certificate may have. ``oid``: the type of an OTHER_NAME, and its alone."""

    type: SanType
    match: Exact | Prefix | Suffix | Regex | Wildcard
    oid: str | None = None


@dataclass(frozen=True, slots=True)
class ClientValidation:
    """What a client's certificate must be, besides one of the server's CAs. Of each list one is enough; all lists hold.

    ``spki_hashes`` (base64) and ``certificate_hashes`` (hexadecimal) are one list of two forms, as Envoy has it.
    ``crl_secrets`` (names in the Gateway's namespace) and ``crl_file`` revoke; a CA's own Secret may, too.
    """

    sans: tuple[SanMatch, ...] = ()
    spki_hashes: tuple[str, ...] = ()
    certificate_hashes: tuple[str, ...] = ()
    crl_secrets: tuple[str, ...] = ()
    crl_file: str | None = None
    only_verify_leaf_crl: bool = False
    crl_points: CrlPoints | None = None
    ocsp: ClientOcsp | None = None


@dataclass(frozen=True, slots=True)
class Problems:
    """What is refused is answered with a problem document (RFC 9457); ``reason``: with the reason's code."""

    reason: bool = False


ANY_CERTIFICATE = ClientValidation()
"""No demand beyond the server's CAs."""


@dataclass(frozen=True, slots=True)
class ClientTraffic:
    """The ClientTrafficPolicy that holds at a server; None of a field: it says nothing of it."""

    validation: ClientValidation | None = None
    minimum_version: TlsVersion | None = None
    maximum_version: TlsVersion | None = None
    cipher_suites: tuple[str, ...] = ()
    ecdh_curves: tuple[str, ...] = ()
    compliance: CompliancePolicy | None = None
    staple: StaplePolicy | None = None
    headers: ClientHeaders = USUAL_HEADERS
    resumption: Resumption | None = None
    health_check: HealthCheck | None = None
    failed_handshakes: FailedHandshakes | None = None
    problems: Problems | None = None
    origin: Origin | None = None
    """None: there is no policy."""

    @property
    def speaks_of_tls(self) -> bool:
        """Whether it says anything that a server without TLS cannot do."""
        said = (self.minimum_version, self.maximum_version, self.cipher_suites, self.ecdh_curves, self.compliance)
        others = (self.validation, self.staple, self.resumption)
        return any(said) or any(other is not None for other in others)


NO_POLICY = ClientTraffic()
