"""One decision, as it is told to a decision log."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from isthmus.decide.rego.engine import Engine
from isthmus.decide.rego.source import Policy


@dataclass(frozen=True, slots=True)
class Decision:
    """``path``: of the rule, with slashes. ``input`` holds what the client sent, so no repr shows it.

    ``result`` None with ``error`` None: the rule is undefined. ``engine`` None: none is there (yet), so it was denied.
    """

    decision_id: str
    policy: str
    """``namespace/name`` of the RegoPolicy."""
    path: str
    timestamp: datetime
    seconds: float
    """That it took."""
    requested_by: str
    input: dict[str, Any] | None = field(repr=False)
    result: Any = field(default=None, repr=False)
    error: str | None = None
    source: Policy | None = field(default=None, repr=False)
    engine: Engine | None = field(default=None, repr=False)
    """That decided; ``system/log/mask`` and ``system/log/drop`` can be asked of it where ``engine.has`` says so."""


class DecisionLog(Protocol):
    """Where decisions are told. Must not block nor raise: the answer to Envoy comes after it."""

    def log(self, decision: Decision) -> None: ...
