"""What becomes of a question: somebody was verified, or the request is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Verified:
    """``method``: how (``api-key``, ``certificate``, ``jwt``, ``introspection``). ``consumer``: ``namespace/name``.

    ``claims``: of an introspected token, for the policies behind.
    """

    method: str
    consumer: str | None = None
    claims: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """``reason``: a code of ``model/reason.py``; ``challenge``: the header ``www-authenticate`` (RFC 9110, 11.6.1)."""

    reason: str
    status: int
    challenge: str | None = None


Outcome = Verified | Refused
