"""The policies that are active, and what they decide: a CheckRequest in, a CheckResponse out. Without sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from isthmus.decide.rego.decision import Decision
from isthmus.decide.rego.engine import UNDEFINED, Engine
from isthmus.decide.rego.input import build_input
from isthmus.decide.rego.result import Verdict, allow, deny, read_result
from isthmus.decide.rego.source import Policy
from isthmus.errors import Undecided

DENIED, NO_DECISION, FAILED = "rego-denied", "rego-undefined", "rego-error"
"""Reasons (``model/reason.py``)."""
_REFUSED = Verdict(False)


@dataclass(frozen=True, slots=True)
class Active:
    """A policy as it decides now. ``engine`` None: it has never been whole, so it denies."""

    name: str
    path: str
    dry_run: bool = False
    source: Policy | None = field(default=None, repr=False)
    engine: Engine | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Answer:
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """``response``: a CheckResponse; ``decisions``: of each policy that was asked, for the log."""

    response: Any
    decisions: tuple[Decision, ...]


class Decider:
    """``policies``, by ``namespace/name``, is replaced as a whole. :meth:`check` may be called from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.policies: Mapping[str, Active] = {}
        self._clock = clock

    def check(self, names: Sequence[str], request: Any) -> Checked:
        """Allowed if all the policies ``names`` allow; the first that does not answers."""
        policies = self.policies
        decision_id = str(uuid4())
        try:
            document = build_input(request)
        except Undecided as broken:
            document, unreadable = None, str(broken)
        else:
            unreadable = ""
        caller = _caller(request)
        allowed: list[Verdict] = []
        decisions: list[Decision] = []
        for name in names:
            active = policies.get(name, Active(name, ""))
            answer, decision = self._ask(active, document, unreadable, decision_id, caller)
            decisions.append(decision)
            if active.dry_run:
                continue
            if not answer.verdict.allowed:
                return Checked(deny(answer.verdict, answer.reason, decision_id), tuple(decisions))
            allowed.append(answer.verdict)
        response = allow(allowed, decision_id) if names else deny(_REFUSED, FAILED, decision_id)
        return Checked(response, tuple(decisions))

    def _ask(
        self, active: Active, document: dict[str, Any] | None, unreadable: str, decision_id: str, caller: str
    ) -> tuple[_Answer, Decision]:
        begun = self._clock()
        result: Any = None
        error: str | None = None
        try:
            if document is None:
                raise Undecided(unreadable)
            if active.engine is None:
                raise Undecided("the policy is not there, or cannot be compiled")
            value = active.engine.evaluate(active.path, document)
            if value is UNDEFINED:
                answer = _Answer(_REFUSED, NO_DECISION)
            else:
                result = value
                answer = _Answer(read_result(value), DENIED)
        except Undecided as broken:
            error = str(broken)
            answer = _Answer(_REFUSED, FAILED)
        ended = self._clock()
        return answer, Decision(
            decision_id=decision_id,
            policy=active.name,
            path=active.path,
            timestamp=datetime.fromtimestamp(ended, UTC),
            seconds=ended - begun,
            requested_by=caller,
            input=document,
            result=result,
            error=error,
            source=active.source,
            engine=active.engine,
        )


def _caller(request: Any) -> str:
    address = request.attributes.source.address.socket_address
    return f"{address.address}:{address.port_value}" if address.address else ""
