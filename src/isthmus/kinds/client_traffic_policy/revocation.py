"""Revocation in a ClientTrafficPolicy: distribution points, OCSP of clients' certificates, staples of our own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from urllib.parse import urlsplit

from isthmus.config.decode import Reader, checked, enum_of, list_of, optional, record, required, text
from isthmus.config.node import Node
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.model.client_traffic import ClientValidation
from isthmus.model.gateway import ServerTls, ServerTlsMode
from isthmus.model.revocation import ClientOcsp, OcspMode, StaplePolicy

_MOST_POINTS = 16
_LONGEST_TIMEOUT = timedelta(seconds=30)
_TIMEOUT = timedelta(seconds=2)
_MAX_AGE = timedelta(hours=1)


class _Mode(Enum):
    Required = OcspMode.REQUIRED
    BestEffort = OcspMode.BEST_EFFORT


class _Staple(Enum):
    Lenient = StaplePolicy.LENIENT
    Strict = StaplePolicy.STRICT
    Must = StaplePolicy.MUST


@dataclass(frozen=True, slots=True)
class _OcspSpec:
    at: Node
    mode: _Mode
    responder: str | None
    timeout: timedelta
    max_age: timedelta


def _url_problem(written: str) -> str | None:
    try:
        parts = urlsplit(written)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        good = False
    if not good or any(letter <= " " or letter > "~" for letter in written):
        return f'"{written}" is not an http or https URL'
    return "a URL with a password would stand in logs" if parts.username is not None else None


_URL = checked(text, _url_problem)
DISTRIBUTION_POINTS: Reader[tuple[str, ...]] = checked(
    list_of(_URL), lambda urls: f"at most {_MOST_POINTS} are taken" if len(urls) > _MOST_POINTS else None
)
OCSP: Reader[ClientOcsp] = converted(
    record(
        _OcspSpec,
        required("mode", enum_of(_Mode), note="Required: who is not known to be good does not get in"),
        optional("responder", _URL, note="by default the one that the certificate names"),
        optional(
            "timeout",
            checked(positive_duration, lambda given: "at most 30s" if given > _LONGEST_TIMEOUT else None),
            _TIMEOUT,
            note="how long a connection waits for the responder: 2s by default",
        ),
        optional(
            "maxAge",
            checked(positive_duration, lambda given: "at least 1s" if given < timedelta(seconds=1) else None),
            _MAX_AGE,
            note="how long an answer is gone by, and how long a connection lives: 1h by default",
        ),
    ),
    lambda spec, node, report: ClientOcsp(spec.mode.value, spec.responder, spec.timeout, spec.max_age),
)
OCSP_STAPLING: Reader[StaplePolicy] = converted(enum_of(_Staple), lambda chosen, node, report: chosen.value)


def revocation_problems(said: ClientValidation, tls: ServerTls, *, requests: bool) -> Iterator[tuple[str, str]]:
    """Why the server cannot do what ``said`` asks: (field, reason). ``requests``: whether they are what it takes."""
    if tls.mode is ServerTlsMode.ISTIO_MUTUAL:
        if said.crl_points is not None:
            yield "crl", "crl is for certificates of other CAs than the mesh's (mode ISTIO_MUTUAL)"
        if said.ocsp is not None:
            yield "ocsp", "ocsp is for certificates of other CAs than the mesh's (mode ISTIO_MUTUAL)"
        return
    if said.crl_points is not None and tls.ca_credential is None:
        yield "crl", "its CAs are in a file: who must sign what is fetched is known of CAs in a Secret only"
    if said.ocsp is not None and tls.ca_credential is None:
        yield "ocsp", "its CAs are in a file: whom to ask about whom is known of CAs in a Secret only"
    if said.ocsp is not None and not requests:
        # Envoy asks when the client has sent something: until then a TCP server's greeting would have passed.
        yield "ocsp", "it takes plain connections: clients can be refused by OCSP before HTTP only"
