"""What a gateway tells of its clients' connections: to programs in headers, to clients in sessions, to probes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CertificateDetail(Enum):
    """What ``x-forwarded-client-cert`` tells of a certificate, besides its Hash (Envoy Gateway's names)."""

    SUBJECT = "Subject"
    CERT = "Cert"
    CHAIN = "Chain"
    DNS = "DNS"
    URI = "URI"


@dataclass(frozen=True, slots=True)
class ClientHeaders:
    """Headers about the client's certificate. What clients send under these names never arrives."""

    forwarded: tuple[CertificateDetail, ...] | None = (
        CertificateDetail.SUBJECT,
        CertificateDetail.CERT,
        CertificateDetail.DNS,
        CertificateDetail.URI,
    )
    """``x-forwarded-client-cert``, by default as Istio's gateways set it; None: not at all."""
    certificate: str | None = None
    """The header, in lower case, that gets the whole certificate as URL-encoded PEM."""


USUAL_HEADERS = ClientHeaders()
"""Without any ClientTrafficPolicy."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """How TLS sessions may be taken up again: by tickets that clients keep (stateless), by the gateway's memory."""

    stateless: bool
    stateful: bool


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A port in plaintext that answers GET and HEAD of ``path`` with 200, or 503 while it drains, and nothing else."""

    port: int
    path: str
