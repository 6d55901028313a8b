"""``connection`` of a ClientTrafficPolicy: addresses whose TLS handshakes keep failing are shut out for a while."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network

from isthmus.config.decode import Reader, checked, fail, integer, list_of, narrows, optional, record, text
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.model.handshake import FailedHandshakes

_THRESHOLD = 50
_MOST = 100_000
_INTERVAL = timedelta(seconds=10)
_BASE = timedelta(seconds=1)
_LONGEST = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Spec:
    at: Node
    threshold: int
    interval: timedelta
    base_ejection: timedelta
    max_ejection: timedelta
    exempt: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConnectionSpec:
    at: Node
    failed_handshakes: FailedHandshakes | None


def _network_problem(written: str) -> str | None:
    try:
        ip_network(written)
    except ValueError as wrong:
        return f'"{written}" is not an address or a network: {wrong}'
    return None


def _told(spec: _Spec, node: Node, report: Report) -> FailedHandshakes:
    if spec.max_ejection < spec.base_ejection:
        raise fail(report, spec.at.at("maxEjection"), "maxEjection is shorter than baseEjection")
    return FailedHandshakes(
        threshold=spec.threshold,
        interval=spec.interval,
        base_ejection=spec.base_ejection,
        max_ejection=spec.max_ejection,
        exempt=tuple(ip_network(written) for written in spec.exempt),
    )


def _at_least_a_second(given: timedelta) -> str | None:
    return None if given >= timedelta(seconds=1) else "at least 1s"


_PAUSE = checked(positive_duration, _at_least_a_second)
_FAILED_HANDSHAKES: Reader[FailedHandshakes] = converted(
    record(
        _Spec,
        optional(
            "threshold",
            checked(integer, lambda given: None if 1 <= given <= _MOST else f"from 1 to {_MOST}"),
            _THRESHOLD,
            note="failed handshakes of one address within the interval: 50 by default",
        ),
        optional("interval", _PAUSE, _INTERVAL, note="10s by default"),
        optional("baseEjection", _PAUSE, _BASE, note="how long it is shut out first; then twice as long each: 1s"),
        optional("maxEjection", _PAUSE, _LONGEST, note="and never longer: 5m by default"),
        optional("exempt", list_of(checked(text, _network_problem)), (), note="addresses and networks never shut out"),
    ),
    _told,
)
CONNECTION = record(
    ConnectionSpec,
    optional("failedHandshakes", _FAILED_HANDSHAKES, note="off without it; {} has the defaults"),
    narrows("connectionLimit"),
)
