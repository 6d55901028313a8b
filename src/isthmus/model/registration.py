"""Registrations: which processes of a machine, that nobody here started, are which workload (SPIRE's term)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from isthmus.diag import Origin


@dataclass(frozen=True, slots=True)
class Selectors:
    """What must all be true of a process; None: not asked. At least one is asked."""

    uid: int | None = None
    gid: int | None = None
    path: str | None = None
    """Of its executable, absolute."""
    sha256: str | None = None
    """Of its executable, in hexadecimal."""
    systemd_unit: str | None = None
    """Of the system's own manager, such as ``orders.service``."""


@dataclass(frozen=True, slots=True)
class WorkloadRegistration:
    """Processes of ``node`` that meet ``selectors`` are ``service_account`` of ``namespace``."""

    name: str
    namespace: str
    service_account: str
    node: str
    selectors: Selectors
    origin: Origin
    ttl: timedelta | None = None
    """Of its X.509-SVIDs; None: the mesh's."""
    jwt_ttl: timedelta | None = None
    jwt_audiences: tuple[str, ...] | None = None
    """Whom its JWT-SVIDs may be for; None: anybody."""
    hint: str = ""
