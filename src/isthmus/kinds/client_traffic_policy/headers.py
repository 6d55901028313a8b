"""``headers`` of a ClientTrafficPolicy: what programs are told of a client's certificate."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from isthmus.config.decode import Reader, enum_of, fail, list_of, optional, record, text
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.model.client_headers import USUAL_HEADERS, CertificateDetail, ClientHeaders

_DEFAULT_NAME = "x-client-cert"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TAKEN = {"x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"}
_FORWARDING = ("ForwardOnly", "AppendForward", "AlwaysForwardOnly")


class _Detail(Enum):
    Subject = CertificateDetail.SUBJECT
    Cert = CertificateDetail.CERT
    Chain = CertificateDetail.CHAIN
    DNS = CertificateDetail.DNS
    URI = CertificateDetail.URI


@dataclass(frozen=True, slots=True)
class _ForwardedSpec:
    at: Node
    mode: bool
    """Whether it is set at all."""
    cert_details_to_add: tuple[_Detail, ...] | None


@dataclass(frozen=True, slots=True)
class _CertificateSpec:
    at: Node
    name: str


@dataclass(frozen=True, slots=True)
class _HeadersSpec:
    at: Node
    x_forwarded_client_cert: _ForwardedSpec | None
    client_certificate: _CertificateSpec | None


def _mode(written: str, node: Node, report: Report) -> bool:
    if written in _FORWARDING:
        raise fail(report, node, f'"{written}" would pass on what anybody writes there; Sanitize or SanitizeSet')
    if written not in ("Sanitize", "SanitizeSet"):
        raise fail(report, node, f'"{written}" is not one of Sanitize, SanitizeSet')
    return written == "SanitizeSet"


def _name(written: str, node: Node, report: Report) -> str:
    name = written.lower()
    if not _NAME.fullmatch(name):
        raise fail(report, node, f'"{written}" is not a header of letters, digits and hyphens')
    if not name.startswith("x-") or name in _TAKEN or name.startswith("x-envoy-"):
        raise fail(report, node, f'"{written}" is not one of its own: it begins with x-, and is nobody else\'s')
    return name


def _headers(spec: _HeadersSpec, node: Node, report: Report) -> ClientHeaders:
    forwarded = spec.x_forwarded_client_cert
    details = USUAL_HEADERS.forwarded
    if forwarded is not None and not forwarded.mode:
        if forwarded.cert_details_to_add is not None:
            raise fail(report, node.at("xForwardedClientCert"), "certDetailsToAdd needs mode SanitizeSet")
        details = None
    elif forwarded is not None and forwarded.cert_details_to_add is not None:
        details = tuple(dict.fromkeys(detail.value for detail in forwarded.cert_details_to_add))
    certificate = spec.client_certificate
    return ClientHeaders(details, certificate.name if certificate is not None else None)


HEADERS: Reader[ClientHeaders] = converted(
    record(
        _HeadersSpec,
        optional(
            "xForwardedClientCert",
            record(
                _ForwardedSpec,
                optional("mode", converted(text, _mode), True, note="Sanitize (not set), or SanitizeSet, the default"),
                optional(
                    "certDetailsToAdd",
                    list_of(enum_of(_Detail)),
                    note="besides Hash and By; Subject, Cert, DNS and URI if not given",
                ),
            ),
        ),
        optional(
            "clientCertificate",
            record(
                _CertificateSpec,
                optional("name", converted(text, _name), _DEFAULT_NAME, note=f"{_DEFAULT_NAME} if not given"),
            ),
            note="the whole certificate, URL-encoded PEM, in a header of its own",
        ),
    ),
    _headers,
)
