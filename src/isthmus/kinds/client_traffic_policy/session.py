"""``tls.session`` of a ClientTrafficPolicy: whether TLS sessions are taken up again."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.config.decode import Reader, optional, record
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.model.client_headers import Resumption


@dataclass(frozen=True, slots=True)
class _KindSpec:
    at: Node


@dataclass(frozen=True, slots=True)
class _ResumptionSpec:
    at: Node
    stateless: _KindSpec | None
    stateful: _KindSpec | None


@dataclass(frozen=True, slots=True)
class _SessionSpec:
    at: Node
    resumption: _ResumptionSpec | None


def _resumption(spec: _SessionSpec, node: Node, report: Report) -> Resumption | None:
    found = spec.resumption
    return None if found is None else Resumption(found.stateless is not None, found.stateful is not None)


SESSION: Reader[Resumption | None] = converted(
    record(
        _SessionSpec,
        optional(
            "resumption",
            record(
                _ResumptionSpec,
                optional("stateless", record(_KindSpec), note="`{}`: by tickets, whose keys change every hour"),
                optional("stateful", record(_KindSpec), note="`{}`: by sessions in the gateway's memory (TLS 1.2)"),
            ),
            note="`{}` is none; both if not given",
        ),
    ),
    _resumption,
)
