"""The control plane's own metrics, under Istio's names where the meaning is the same, in Prometheus' text form.

What happens often is counted where it happens, in one :class:`collections.Counter`; what is so at the moment is looked
up when somebody asks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family

from isthmus.ads.status import Statuses
from isthmus.control.control_plane import ControlPlane
from isthmus.model.metric import CONTROL_PLANE_METRICS, CONVERGENCE_BUCKETS, Metric, MetricKind
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE

Counts = Counter[tuple[str, ...]]
"""By the metric's name and the values of its labels."""

_REFUSABLE = {CLUSTER: "cds", LISTENER: "lds", ROUTE: "rds", ENDPOINT: "eds"}
_LOOK_SECONDS = 0.02
_BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in CONTROL_PLANE_METRICS}


class PlaneMetrics:
    """``root_expiry``: when the first of the trusted roots ends."""

    def __init__(
        self,
        plane: ControlPlane,
        statuses: Statuses,
        counts: Counts,
        root_expiry: Callable[[], datetime],
        more: Callable[[], Mapping[str, Mapping[tuple[str, ...], float]]] = dict,
    ) -> None:
        """``more``: gauges of other services, by name and then by the values of their labels."""
        self._plane = plane
        self._statuses = statuses
        self._counts = counts
        self._root_expiry = root_expiry
        self._more = more
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._convergence = self._histogram("pilot_proxy_convergence_time")
        self._debounce = self._histogram("pilot_debounce_time")
        self._build = self._histogram("pilot_pushcontext_init_seconds")

    def text(self) -> str:
        text = generate_latest(self._registry).decode()
        # The client library ends every counter's name in "_total"; Istio does not.
        for metric in CONTROL_PLANE_METRICS:
            if metric.kind is MetricKind.COUNTER and not metric.name.endswith("_total"):
                text = text.replace(f"{metric.name}_total", metric.name)
        return text

    def converged(self, seconds: float) -> None:
        """A proxy has confirmed all of its new configuration."""
        self._convergence.observe(seconds)

    def rebuilt(self, debounce_seconds: float, build_seconds: float) -> None:
        """A change was put into force."""
        self._debounce.observe(debounce_seconds)
        self._build.observe(build_seconds)

    def collect(self) -> Iterator[Family]:
        """For the registry: everything but the histograms."""
        for metric in CONTROL_PLANE_METRICS:
            if metric.kind is MetricKind.COUNTER:
                yield self._counter(metric)
            elif metric.kind is MetricKind.GAUGE:
                yield self._gauge(metric)

    def _counter(self, metric: Metric) -> Family:
        family = CounterMetricFamily(metric.name, metric.about, labels=metric.labels)
        found = {key[1:]: count for key, count in self._counts.items() if key[0] == metric.name}
        if not metric.labels:
            found.setdefault((), 0)
        for labels, count in sorted(found.items()):
            family.add_metric(labels, count)
        return family

    def _gauge(self, metric: Metric) -> Family:
        family = GaugeMetricFamily(metric.name, metric.about, labels=metric.labels)
        for labels, value in sorted(self._now(metric.name).items()):
            family.add_metric(labels, value)
        return family

    def _now(self, name: str) -> Mapping[tuple[str, ...], float]:
        mesh = self._plane.mesh
        if (found := self._more().get(name)) is not None:
            return found
        match name:
            case "pilot_xds":
                return {(): len(self._statuses.all())}
            case "pilot_services":
                return {(): len(mesh.services)}
            case "pilot_virt_services":
                requests = {(table.namespace, table.name) for table in mesh.routes}
                connections = {(table.namespace, table.name) for table in mesh.l4_routes}
                return {(): len(requests | connections)}
            case "citadel_server_root_cert_expiry_timestamp":
                return {(): self._root_expiry().timestamp()}
        refused: Counter[tuple[str, ...]] = Counter()
        for status in self._statuses.all():
            for refusal in status.refusals:
                if f"pilot_xds_{_REFUSABLE.get(refusal.type_url)}_reject" == name:
                    refused[status.proxy_id,] += 1
        return refused

    def _histogram(self, name: str) -> Histogram:
        metric = _BY_NAME[name]
        return Histogram(name, metric.about, registry=self._registry, buckets=CONVERGENCE_BUCKETS)


async def follow_convergence(plane: ControlPlane, statuses: Statuses, metrics: PlaneMetrics) -> None:
    """Measure how long proxies take to have what is new for them, until cancelled."""
    loop, convergence = asyncio.get_running_loop(), Convergence(plane, statuses)
    async for _ in plane.turns:
        convergence.published(loop.time())
        version = plane.turns.version
        while convergence.waiting and plane.turns.version == version:
            await asyncio.sleep(_LOOK_SECONDS)
            for seconds in convergence.settled(loop.time()):
                metrics.converged(seconds)


@dataclass(slots=True)
class Convergence:
    """Who was given something new, and when: asked again and again, it tells how long those took that have it all."""

    plane: ControlPlane
    statuses: Statuses
    _known: dict[str, str] = field(default_factory=dict)
    _pending: dict[str, float] = field(default_factory=dict)

    def published(self, now: float) -> None:
        """A turn of the control plane is over. ``now``: seconds of a clock that only goes forward."""
        newest = {proxy.id: self.plane.snapshot(proxy.id).value.version for proxy in self.plane.mesh.proxies}
        for proxy_id, version in newest.items():
            if self._known.get(proxy_id) != version:
                self._pending[proxy_id] = now
        self._known = newest
        self._pending = {proxy_id: since for proxy_id, since in self._pending.items() if proxy_id in newest}

    def settled(self, now: float) -> list[float]:
        """Seconds that each proxy took which is in sync since the last call."""
        done = [proxy_id for proxy_id in self._pending if self._in_sync(proxy_id)]
        return [now - self._pending.pop(proxy_id) for proxy_id in done]

    @property
    def waiting(self) -> bool:
        return bool(self._pending)

    def _in_sync(self, proxy_id: str) -> bool:
        status = self.statuses.get(proxy_id)
        return status is not None and status.in_sync and status.snapshot_version == self._known[proxy_id]
