"""One look at an Envoy, compared with what it should have. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from isthmus.drift.difference import difference
from isthmus.drift.finding import Drift, Kind
from isthmus.drift.secret import secrets
from isthmus.drift.seen import Seen, Wanted
from isthmus.envoy_api import any_of
from isthmus.envoy_api import unpack as unpacked
from isthmus.xds.snapshot import CLUSTER, EXTENSION, LISTENER, ROUTE, Built, message

UNDECLARED = "runs, and was not declared"
MISSING = "was declared, and does not run"
_MOST = 100
"""Differences told of one proxy."""
_LONGEST = 500
_QUIET = ("off", "critical", "error", "warning", "info")
"""Log levels that do not tell what passes through."""


def _unpack(packed: Any) -> Any:
    """As :func:`isthmus.envoy_api.unpack`: a message whose fields only Envoy's descriptors know."""
    return unpacked(packed)


def compare(wanted: Wanted, seen: Seen) -> tuple[Drift, ...]:
    """Every difference. What is still on its way to the proxy is not looked at."""
    found = [*_process(wanted, seen), *_bootstrap(wanted, seen)]
    parts = {type(part).DESCRIPTOR.name: part for part in map(_unpack, seen.dump.configs)}
    secret_part = parts.get("SecretsConfigDump")
    if secret_part is not None:
        found += secrets(wanted, secret_part)
    if wanted.settled:
        found += _resources(wanted, parts)
    return tuple(dict.fromkeys(_told(wanted, one) for one in found[:_MOST]))


def _told(wanted: Wanted, one: Drift) -> Drift:
    """With its machine, in words for a log and a terminal, whatever that machine called its resources."""
    name, words = (_printable(text) for text in (one.name, one.difference))
    return replace(one, machine=wanted.machine, name=name, difference=words)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_LONGEST])


def _process(wanted: Wanted, seen: Seen) -> Iterator[Drift]:
    if seen.state != "LIVE":
        yield Drift(wanted.proxy, Kind.STATE, "server", f"LIVE → {seen.state}")
    if seen.listeners_stopped:
        yield Drift(wanted.proxy, Kind.STATE, "listeners", f"{seen.listeners_stopped} closed by the admin interface")
    if seen.loudest not in _QUIET:
        yield Drift(wanted.proxy, Kind.STATE, "log level", f"warning → {seen.loudest}")
    for name, value in wanted.options.items():
        if seen.options.get(name) != value:
            yield Drift(wanted.proxy, Kind.OPTION, name, f"{value} → {seen.options.get(name)}")


def _bootstrap(wanted: Wanted, seen: Seen) -> Iterator[Drift]:
    for part in map(_unpack, seen.dump.configs):
        if type(part).DESCRIPTOR.name == "BootstrapConfigDump":
            runs = type(wanted.bootstrap)()
            runs.CopyFrom(part.bootstrap)
            # What Envoy adds of itself.
            for name in ("user_agent_name", "user_agent_build_version", "extensions", "client_features"):
                runs.node.ClearField(name)
            told = difference(wanted.bootstrap, runs)
            if told is not None:
                yield Drift(wanted.proxy, Kind.BOOTSTRAP, "bootstrap", told)


def _resources(wanted: Wanted, parts: Mapping[str, Any]) -> Iterator[Drift]:
    leaving = False
    if (part := parts.get("ListenersConfigDump")) is not None:
        leaving = any(one.HasField("draining_state") for one in part.dynamic_listeners)
        active = {one.name: one.active_state.listener for one in part.dynamic_listeners if one.HasField("active_state")}
        yield from _different(wanted, Kind.LISTENER, LISTENER, active)
        yield from _missing(wanted, Kind.LISTENER, LISTENER, active)
        static = (_unpack(one.listener).name for one in part.static_listeners)
        yield from (Drift(wanted.proxy, Kind.LISTENER, name or "(no name)", UNDECLARED) for name in static)
    if (part := parts.get("ClustersConfigDump")) is not None:
        found = {_unpack(one.cluster).name: one.cluster for one in part.dynamic_active_clusters}
        yield from _different(wanted, Kind.CLUSTER, CLUSTER, found)
        yield from _missing(wanted, Kind.CLUSTER, CLUSTER, found)
    # What a listener that leaves has asked for is there as long as its last requests.
    if (part := parts.get("RoutesConfigDump")) is not None:
        routes = {_unpack(one.route_config).name: one.route_config for one in part.dynamic_route_configs}
        yield from _different(wanted, Kind.ROUTE, ROUTE, routes, leaving=leaving)
    if (part := parts.get("EcdsConfigDump")) is not None:
        filters = {_unpack(one.ecds_filter).name: one.ecds_filter for one in part.ecds_filters}
        yield from _different(wanted, Kind.FILTER, EXTENSION, filters, leaving=leaving)


def _missing(wanted: Wanted, kind: Kind, type_url: str, runs: Mapping[str, Any]) -> Iterator[Drift]:
    """Of what an Envoy has all of; of the rest it has what its listeners ask for."""
    names = (name for name in wanted.snapshot.of(type_url) if name not in runs)
    return (Drift(wanted.proxy, kind, name, MISSING) for name in names)


def _different(
    wanted: Wanted, kind: Kind, type_url: str, runs: Mapping[str, Any], *, leaving: bool = False
) -> Iterator[Drift]:
    declared = wanted.snapshot.of(type_url)
    for name, packed in runs.items():
        built = declared.get(name)
        if built is None and leaving:
            continue
        told = UNDECLARED if built is None else _content(built, packed)
        if told is not None:
            yield Drift(wanted.proxy, kind, name, told)


def _content(built: Built, packed: Any) -> str | None:
    if packed.type_url != built.type_url:
        return f"{built.type_url} → {packed.type_url}"
    declared, runs = message(built), _unpack(packed)
    return None if any_of(declared) == any_of(runs) else difference(declared, runs)
