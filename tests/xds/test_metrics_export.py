from __future__ import annotations

from dataclasses import replace
from typing import Any

from isthmus.control.offline import offline_world
from isthmus.envoy_api import unpack
from isthmus.model.world import Address, PortKey
from isthmus.xds.snapshot import LISTENER

from .making import compiled, entry, given, mesh_config, service
from .test_observe import OTEL

NAME = "metrics_export"


def listener(config: str, *, running: bool = True) -> Any:
    mesh = compiled(service("orders"), entry("orders-1"), OTEL, mesh_config(config)).mesh
    world = offline_world(mesh)
    if running:
        key = PortKey("sidecar~shop~orders-1", "metrics", 0)
        world = replace(world, addresses={**world.addresses, key: Address.unix("/run/x.metrics")})
    found = given(mesh, "orders-1", world)
    return found.listener(NAME) if NAME in found.names(LISTENER) else None


PROVIDER = "extensionProviders: [{name: otel, opentelemetry: {service: otel.example.com, port: 4317%s}}]\n%s"
WANTED = "defaultProviders: {metrics: [otel]}"


def test_it_leads_to_the_receiver() -> None:
    found = listener(PROVIDER % ("", WANTED))
    assert found.address.pipe.path == "/run/x.metrics"
    proxy: Any = unpack(found.filter_chains[0].filters[0].typed_config)
    assert proxy.cluster == "outbound|4317||otel.example.com"


def test_without_a_provider_of_metrics_nobody_listens() -> None:
    assert listener(PROVIDER % ("", "")) is None
    assert listener("defaultProviders: {metrics: [prometheus]}") is None
    assert listener(PROVIDER % (", http: {path: /v1/traces}", WANTED)) is None, "the exporter speaks gRPC"
    assert listener(PROVIDER % ("", WANTED), running=False) is None
