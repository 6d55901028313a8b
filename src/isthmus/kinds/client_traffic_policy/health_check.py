"""``healthCheck`` of a ClientTrafficPolicy: a port where infrastructure may ask, without a certificate."""

from __future__ import annotations

import re
from dataclasses import dataclass

from isthmus.config.decode import Reader, checked, port, record, required, text
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.model.client_headers import HealthCheck

_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")


@dataclass(frozen=True, slots=True)
class _HealthCheckSpec:
    at: Node
    port: int
    path: str


def _path_problem(written: str) -> str | None:
    return None if _PATH.fullmatch(written) else f'"{written}" is not a plain absolute path'


def _health_check(spec: _HealthCheckSpec, node: Node, report: Report) -> HealthCheck:
    return HealthCheck(spec.port, spec.path)


HEALTH_CHECK: Reader[HealthCheck] = converted(
    record(
        _HealthCheckSpec,
        required("port", port, note="of its own: no server's"),
        required("path", checked(text, _path_problem)),
    ),
    _health_check,
)
