"""``errors`` of a ClientTrafficPolicy: how a client is told that its request is refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from isthmus.config.decode import Reader, boolean, enum_of, optional, record, required
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.model.client_traffic import Problems


class _Format(Enum):
    PROBLEM_JSON = "application/problem+json"


@dataclass(frozen=True, slots=True)
class _Spec:
    at: Node
    format: _Format
    reason: bool


def _problems(spec: _Spec, node: Node, report: Report) -> Problems:
    return Problems(spec.reason)


ERRORS: Reader[Problems] = converted(
    record(
        _Spec,
        required(
            "format", enum_of(_Format), note="PROBLEM_JSON: a document of RFC 9457, of refusals that are Envoy's own"
        ),
        optional("reason", boolean, False, note="with the reason's code and title; else they tell the status alone"),
    ),
    _problems,
)
