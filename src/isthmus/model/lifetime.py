"""From when until when something of a manifest holds: a certificate, or a list of revoked ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from isthmus.diag import Origin


class Lasting(Enum):
    CERTIFICATE = "certificate"
    CA = "CA certificate"
    CRL = "list of revoked certificates"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """``name``: whose, as people know it. ``origin``: the value that holds it. Times are UTC."""

    of: Lasting
    name: str
    begins: datetime
    ends: datetime
    origin: Origin
