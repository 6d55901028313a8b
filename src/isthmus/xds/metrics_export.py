"""Metrics over OTLP: Envoy's own exporter, which only knows what it was started with, led on to the receiver in force.

The exporter of every Envoy speaks to a Unix socket of its own. Where a provider of metrics is in force, a listener
stands there that passes the bytes to the receiver's cluster, with its mutual TLS and its endpoints; where none is,
nobody listens, and nothing is exported. So a change of providers restarts no Envoy.
"""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.model.route import Destination
from isthmus.model.telemetry import OpenTelemetry, metrics_providers
from isthmus.xds.context import Context
from isthmus.xds.listener import Chain, build_listener, build_tcp_proxy
from isthmus.xds.name import METRICS_EXPORT
from isthmus.xds.observe import Observed, telemetries
from isthmus.xds.snapshot import Built, build


def build_metrics_export(context: Context) -> Iterator[Built]:
    """The listener, towards the first provider of metrics that takes OTLP over gRPC."""
    address = context.world.address(context.proxy.id, "metrics", 0)
    settings = context.mesh.settings
    if address is None:
        return
    for name in metrics_providers(telemetries(context), settings.telemetry):
        provider = settings.telemetry_provider(name)
        if isinstance(provider, OpenTelemetry) and provider.path is None:
            cluster = context.cluster_of(Destination(provider.host, provider.port))
            chain = Chain(METRICS_EXPORT, (build_tcp_proxy(METRICS_EXPORT, ((cluster, 1),), Observed(())),))
            listener = build_listener(METRICS_EXPORT, address, (chain,), inbound=False)
            yield build(METRICS_EXPORT, listener, (provider.origin,))
            return
