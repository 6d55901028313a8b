"""What one connection manager or TCP proxy is observed with: access logs, metrics and spans, as the Telemetries say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.filters.allow_policies import AllowPolicies
from isthmus.filters.rbac import verdict_log_fields
from isthmus.model.route import Destination
from isthmus.model.telemetry import (
    OWN_LOG,
    FileLog,
    Mode,
    OpenTelemetry,
    Telemetry,
    Tracing,
    applicable,
    logging_of,
    metrics_providers,
    tracing_of,
)
from isthmus.xds.access_log import build_file_log, build_http_logs, build_tcp_log, filtered, once_a_connection
from isthmus.xds.context import Context
from isthmus.xds.metrics import build_denied_stats, build_http_stats, build_tcp_stats
from isthmus.xds.tracing import build_tracing

_INBOUND = "inbound"
_OUTBOUND = "outbound"
_ANYBODY = AllowPolicies()


@dataclass(frozen=True, slots=True)
class Observed:
    """``logs``: access loggers, those that count among them. ``tracing``: None for no spans."""

    logs: tuple[Any, ...]
    tracing: Any = None


def observe_http(context: Context, hop: str, custom: Mapping[str, str] | None = None) -> Observed:
    """For a connection manager at ``hop`` (``gateway``, ``inbound``, ``outbound``).

    ``custom``: the access log's fields that tell of CUSTOM policies.
    """
    applied, mode = telemetries(context), _mode(hop)
    own = build_http_logs(context.proxy, hop, custom)
    wanted = tracing_at(context, hop)
    verdict = {**verdict_log_fields(), **(custom or {})} if hop != _OUTBOUND else None
    return Observed(
        (
            *_logs(context, applied, mode, own),
            *build_http_stats(context, applied, mode),
            *build_denied_stats(context, hop),
        ),
        build_tracing(context, wanted, verdict) if wanted is not None else None,
    )


def observe_tcp(context: Context, hop: str, allowing: AllowPolicies = _ANYBODY) -> Observed:
    """For a TCP proxy. ``allowing``: see :func:`~isthmus.xds.access_log.build_tcp_log`."""
    applied, mode = telemetries(context), _mode(hop)
    own = (build_tcp_log(context.proxy, hop, allowing),)
    logs = tuple(map(once_a_connection, _logs(context, applied, mode, own)))
    return Observed((*logs, *build_tcp_stats(context, applied, mode)))


def telemetries(context: Context) -> tuple[Telemetry, ...]:
    """Those in force for the proxy, widest first."""
    mesh = context.mesh
    return applicable(mesh.telemetry, mesh.settings.root_namespace, context.policy_namespaces, context.proxy.labels)


def tracing_at(context: Context, hop: str) -> Tracing | None:
    return tracing_of(telemetries(context), _mode(hop), context.mesh.settings.telemetry)


def receivers(context: Context) -> Iterator[Destination]:
    """Where the proxy's spans and metrics go."""
    settings, applied = context.mesh.settings, telemetries(context)
    spans = (tracing_of(applied, mode, settings.telemetry) for mode in (Mode.CLIENT, Mode.SERVER))
    names = [one.provider for one in spans if one is not None]
    for name in dict.fromkeys((*names, *metrics_providers(applied, settings.telemetry))):
        provider = settings.telemetry_provider(name)
        if isinstance(provider, OpenTelemetry):
            yield Destination(provider.host, provider.port)


def _mode(hop: str) -> Mode:
    return Mode.SERVER if hop == _INBOUND else Mode.CLIENT


def _logs(context: Context, applied: Sequence[Telemetry], mode: Mode, own: tuple[Any, ...]) -> tuple[Any, ...]:
    """The access log of Isthmus is there unless a Telemetry turns it off, or names other providers instead."""
    settings = context.mesh.settings
    found = logging_of(applied, mode, settings.telemetry)
    if found is None:
        beside = settings.telemetry.file_log
        return own if beside is None else (*own, build_file_log(beside))
    logs = []
    for name, expression in found.items():
        provider = settings.telemetry_provider(name)
        if isinstance(provider, FileLog):
            logs.append(filtered(build_file_log(provider), expression))
        elif name == OWN_LOG:
            logs += (filtered(one, expression) for one in own)
    return tuple(logs)
