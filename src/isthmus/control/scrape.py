"""A proxy's statistics in Prometheus' text form, as Istio's dashboards expect them.

Envoy puts ``envoy_`` before every name and leaves empty what it does not know. At the called side it knows of the
caller what the handshake proves, the identity: who runs under that identity is looked up in the mesh.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from isthmus.model.mesh import Mesh
from isthmus.model.metric import PROXY_METRICS
from isthmus.model.proxy import Proxy
from isthmus.model.telemetry import Mode, applicable, metrics_of

UNKNOWN = "unknown"
_PREFIX = "envoy_istio_"
_OWN_PREFIX = "envoy_isthmus_"
_PRINCIPAL = re.compile(r'source_principal="([^"]*)"')
_SPIFFE = re.compile(r"spiffe://[^/]+/ns/([^/]+)/sa/[^/]+")
_AT_DESTINATION = 'reporter="destination"'
_DERIVED = ("source_workload", "source_workload_namespace", "source_app", "source_version")
_OWN_EXPORT = 'envoy_cluster_name="metrics_export"'
"""The proxy's way to itself; nobody listens there unless metrics are exported."""


@dataclass(frozen=True, slots=True)
class Callers:
    """Who runs under an identity: labels by SPIFFE ID."""

    by_identity: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, mesh: Mesh) -> Callers:
        found: dict[str, list[Mapping[str, str]]] = {}
        for proxy in mesh.proxies:
            found.setdefault(proxy.identity.uri, []).append(
                {
                    "source_workload": proxy.name,
                    "source_app": proxy.labels.get("app", UNKNOWN),
                    "source_version": proxy.labels.get("version", UNKNOWN),
                }
            )
        return cls({uri: _common(everybody) for uri, everybody in found.items()})

    def labels(self, principal: str) -> Mapping[str, str]:
        named = _SPIFFE.fullmatch(principal)
        known = self.by_identity.get(principal, {})
        return {"source_workload_namespace": named[1] if named else UNKNOWN, **known}


def _common(everybody: Iterable[Mapping[str, str]]) -> Mapping[str, str]:
    """What all of them have the same."""
    first, *others = everybody
    return {key: value for key, value in first.items() if all(one[key] == value for one in others)}


def exposition(text: str, mesh: Mesh, proxy: Proxy) -> str:
    """``text``: what Envoy's ``/stats/prometheus`` answered."""
    callers, removed = Callers.of(mesh), _removed(mesh, proxy)
    added: dict[tuple[str, frozenset[str]], str] = {}

    def derived(principal: str, left_out: frozenset[str]) -> str:
        key = principal, left_out
        if key not in added:
            known = callers.labels(principal)
            labels = (f'{name}="{known.get(name, UNKNOWN)}"' for name in _DERIVED if name not in left_out)
            added[key] = ",".join(labels)
        return added[key]

    def lines() -> Iterator[str]:
        for line in text.splitlines():
            if _OWN_EXPORT in line:
                continue
            if line.startswith("#"):
                yield line.replace(f" {_PREFIX}", " istio_", 1).replace(f" {_OWN_PREFIX}", " isthmus_", 1)
                continue
            if line.startswith(_OWN_PREFIX):
                yield line.removeprefix("envoy_")
                continue
            if not line.startswith(_PREFIX):
                yield line
                continue
            name, brace, rest = line.removeprefix("envoy_").partition("{")
            rest = rest.replace('=""', f'="{UNKNOWN}"')
            if brace and _AT_DESTINATION in rest:
                principal = _PRINCIPAL.search(rest)
                own = derived(principal[1] if principal else UNKNOWN, removed.get(_metric(name), frozenset()))
                rest = f"{own},{rest}" if own else rest
            yield f"{name}{brace}{rest}"

    return "\n".join(lines()) + "\n"


def _metric(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name)


def _removed(mesh: Mesh, proxy: Proxy) -> Mapping[str, frozenset[str]]:
    """By metric: the labels that a Telemetry takes away, or gives another value."""
    applied = applicable(mesh.telemetry, mesh.settings.root_namespace, (proxy.namespace,), proxy.labels)
    settings = {metric.name: metrics_of(applied, metric.selector, Mode.SERVER) for metric in PROXY_METRICS}
    return {name: frozenset(one.tags or ()) for name, one in settings.items()}
