"""How a node finds out whether its program may be sent to: WorkloadGroup's ``probe``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class HttpGet:
    """A GET that a status of 200 to 399 answers. TLS is not verified, as a kubelet's is not."""

    port: int
    path: str = "/"
    host: str = "127.0.0.1"
    scheme: str = "http"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """A connection that is taken."""

    port: int
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Exec:
    """A command that ends with 0."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """``success``, ``failure``: how many in a row it takes to be called healthy, or unhealthy after having been."""

    action: HttpGet | TcpSocket | Exec
    initial_delay: timedelta = timedelta()
    timeout: timedelta = timedelta(seconds=1)
    period: timedelta = timedelta(seconds=10)
    success: int = 1
    failure: int = 3


def probe_to_json(probe: Probe) -> dict[str, Any]:
    """Durations in seconds; the action under its Kubernetes name."""
    match probe.action:
        case HttpGet(port, path, host, scheme, headers):
            action: dict[str, Any] = {
                "httpGet": {"port": port, "path": path, "host": host, "scheme": scheme, "headers": list(headers)}
            }
        case TcpSocket(port, host):
            action = {"tcpSocket": {"port": port, "host": host}}
        case Exec(command):
            action = {"exec": {"command": list(command)}}
    return action | {
        "initial_delay": probe.initial_delay.total_seconds(),
        "timeout": probe.timeout.total_seconds(),
        "period": probe.period.total_seconds(),
        "success": probe.success,
        "failure": probe.failure,
    }


def probe_from_json(data: dict[str, Any]) -> Probe:
    """Read what :func:`probe_to_json` made. Raises KeyError or TypeError for anything else."""
    action: HttpGet | TcpSocket | Exec
    if "httpGet" in data:
        asked = data["httpGet"]
        headers = tuple((name, value) for name, value in asked["headers"])
        action = HttpGet(asked["port"], asked["path"], asked["host"], asked["scheme"], headers)
    elif "tcpSocket" in data:
        action = TcpSocket(data["tcpSocket"]["port"], data["tcpSocket"]["host"])
    else:
        action = Exec(tuple(data["exec"]["command"]))
    return Probe(
        action,
        timedelta(seconds=data["initial_delay"]),
        timedelta(seconds=data["timeout"]),
        timedelta(seconds=data["period"]),
        data["success"],
        data["failure"],
    )
