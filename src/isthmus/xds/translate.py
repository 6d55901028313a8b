"""The whole translation: (Mesh, World, Proxy) to the Snapshot of that proxy. A pure function."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from isthmus.model.cluster import Service, ServicePort, Subset
from isthmus.model.mesh import Mesh
from isthmus.model.policy import Action
from isthmus.model.proxy import Proxy, Role
from isthmus.model.route import Destination, Forward
from isthmus.model.world import World
from isthmus.xds.cache import TargetCache
from isthmus.xds.cluster import build_black_hole, build_outbound, build_passthrough
from isthmus.xds.context import Context
from isthmus.xds.endpoint import backends, build_load_assignment, in_subset
from isthmus.xds.gateway import build_gateway
from isthmus.xds.inbound import build_workload
from isthmus.xds.name import BLACK_HOLE, PASSTHROUGH, outbound_cluster
from isthmus.xds.outbound import build_outbound_proxy, build_upstreams
from isthmus.xds.policy import selected
from isthmus.xds.snapshot import Built, Snapshot, build, snapshot

Target = tuple[Service, ServicePort, Subset | None]


def translate(mesh: Mesh, world: World, proxy: Proxy, cache: TargetCache | None = None) -> Snapshot:
    """Everything that ``proxy`` is to be given. ``cache`` is one for all proxies of this Mesh and World."""
    context = Context(mesh, world, proxy)
    built: dict[tuple[str, str], Built] = {}
    for resource in _resources(context, cache or TargetCache()):
        built.setdefault((resource.type_url, resource.name), resource)
    return snapshot(built.values())


def _resources(context: Context, cache: TargetCache) -> Iterator[Built]:
    if context.proxy.role is Role.GATEWAY:
        yield from build_gateway(context)
    workload = context.mesh.workload_of(context.proxy) if context.proxy.role is Role.SIDECAR else None
    if workload is not None:
        yield from build_workload(context, workload)
        yield from build_outbound_proxy(context, workload)
        yield from build_upstreams(context, workload)
    for service, port, subset in _targets(context):
        name = outbound_cluster(service.host, port.number, subset.name if subset else None)
        yield from cache.get(name, partial(_build_target, context.mesh, context.world, service, port, subset))
    yield build(BLACK_HOLE, build_black_hole(), (context.proxy.origin,))
    if context.passes_through:
        yield build(PASSTHROUGH, build_passthrough(), (context.proxy.origin,))


def _targets(context: Context) -> Iterator[Target]:
    """What the proxy may send to: a gateway, what its routes name; a sidecar, every service (Istio's default)."""
    for provider in _providers(context):
        found = context.resolve(provider)
        if found is not None:
            yield found
    if context.proxy.role is Role.GATEWAY:
        for destination in _gateway_destinations(context):
            found = context.resolve(destination)
            if found is not None:
                yield found
        return
    for service in context.mesh.services.values():
        for port in service.ports:
            yield service, port, None
            for subset in service.policy.subsets:
                yield service, port, subset


def _gateway_destinations(context: Context) -> Iterator[Destination]:
    keys = {gateway.key for gateway in context.mesh.gateways_of(context.proxy)}
    for table in context.mesh.routes:
        if not keys.isdisjoint(table.gateways):
            for route in table.routes:
                if isinstance(route.action, Forward):
                    yield from route.action.destinations


def _providers(context: Context) -> Iterator[Destination]:
    for policy in selected(context, context.mesh.policies.authorization):
        if policy.action is Action.CUSTOM and policy.provider is not None:
            provider = context.mesh.settings.provider(policy.provider)
            if provider is not None:
                yield Destination(provider.host, provider.port)


def _build_target(
    mesh: Mesh, world: World, service: Service, port: ServicePort, subset: Subset | None
) -> tuple[Built, ...]:
    """A cluster and, where they come by EDS, its endpoints: the same for every proxy."""
    found = in_subset(backends(mesh, world, service, port), subset)
    cluster = build_outbound(service, port, subset, found)
    origins = (service.origin, *service.policy.origins)
    built = build(cluster.name, cluster, origins)
    if not cluster.HasField("eds_cluster_config"):
        return (built,)
    return built, build(cluster.name, build_load_assignment(cluster.name, found), origins)
