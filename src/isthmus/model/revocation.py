"""Revocation: what a server asks for, and what was learnt of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum


class StaplePolicy(Enum):
    """How a server treats the OCSP answer beside its certificate (Envoy's ``ocsp_staple_policy``)."""

    LENIENT = "Lenient"
    """Without a valid answer the certificate is shown alone."""
    STRICT = "Strict"
    """An answer that has ended takes the certificate with it; none at all does not."""
    MUST = "Must"
    """Without a valid answer nobody gets in."""


class OcspMode(Enum):
    """What becomes of a client whose certificate nobody vouches for at the moment."""

    REQUIRED = "Required"
    BEST_EFFORT = "BestEffort"
    """It gets in: only one that is said to be revoked does not."""


@dataclass(frozen=True, slots=True)
class CrlPoints:
    """Where the lists of revoked client certificates are published."""

    urls: tuple[str, ...] = ()
    from_certificates: bool = False
    """Those that the client CAs' certificates name themselves, too."""


@dataclass(frozen=True, slots=True)
class ClientOcsp:
    """Each client certificate's responder is asked before a byte of HTTP is read."""

    mode: OcspMode
    responder: str | None
    """In place of the one that a certificate names."""
    timeout: timedelta
    """How long a connection waits for the responder."""
    max_age: timedelta
    """How long an answer is taken for true, and how long a connection lives on it."""


@dataclass(frozen=True, slots=True)
class ClientCrls:
    """The lists that are in force for one server's client CAs. ``pem``: all of them, one after the other."""

    generation: str
    """Changes when somebody was revoked who was not: standing connections are then ended."""
    version: str
    """Changes with ``pem``."""
    pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Staple:
    """A responder's answer about a server's own certificate."""

    version: str
    der: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Revocations:
    """What was fetched for all gateways; see the fields of World of the same names."""

    crls: Mapping[tuple[str, CrlPoints], ClientCrls] = field(default_factory=dict)
    staples: Mapping[str, Staple] = field(default_factory=dict)
    unstapled: frozenset[str] = frozenset()
