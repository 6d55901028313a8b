"""The whole translation: (Mesh, World, Proxy) to the Snapshot of that proxy. A pure function."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.model.cluster import Service, ServicePort, Subset
from isthmus.model.mesh import Mesh
from isthmus.model.policy import Action
from isthmus.model.proxy import Proxy, Role
from isthmus.model.route import Destination, Forward, RouteTable
from isthmus.model.world import World
from isthmus.xds.cache import Memory
from isthmus.xds.capture import build_capture
from isthmus.xds.cluster import build_black_hole, build_outbound, build_passthrough, credential_wanted
from isthmus.xds.context import Context
from isthmus.xds.decision import build_decision_clusters
from isthmus.xds.endpoint import backends, build_load_assignment, in_subset
from isthmus.xds.gateway import build_gateway
from isthmus.xds.inbound import build_discovered, build_workload
from isthmus.xds.isolated import by_relay
from isthmus.xds.metrics_export import build_metrics_export
from isthmus.xds.name import BLACK_HOLE, OUTBOUND_ROUTES, PASSTHROUGH
from isthmus.xds.observe import receivers
from isthmus.xds.oidc import build_provider_clusters
from isthmus.xds.outbound import build_outbound_proxy, build_proxy_routes, build_upstreams
from isthmus.xds.policy import authorization_policies
from isthmus.xds.snapshot import NO_LAYER, Built, Layer, Snapshot, build, layer, stack

Target = tuple[Service, ServicePort, Subset | None]


def translate(mesh: Mesh, world: World, proxy: Proxy, memory: Memory | None = None) -> Snapshot:
    """Everything that ``proxy`` is to be given. ``memory``, begun with this Mesh and World, spares what is known."""
    if memory is not None:
        found: Snapshot = memory.recall(_snapshot, proxy)
        return found
    return _snapshot(Context(mesh, world, proxy))


def _snapshot(context: Context) -> Snapshot:
    own = context.recall(_own_layer)
    if context.proxy.role is not Role.SIDECAR:
        return stack(own, NO_LAYER)
    isolated = context.world.is_isolated(context.proxy.id)
    return stack(own, context.recall(_all_services_by_relay if isolated else _all_services))


def _own_layer(context: Context) -> Layer:
    if context.proxy.role is Role.SIDECAR and context.world.is_isolated(context.proxy.id):
        return layer(context.recall(_by_relay, built) for built in _own(context))
    return layer(_own(context))


def _own(context: Context) -> Iterator[Built]:
    """What the proxy has for itself; every sidecar has :func:`_all_services` besides (Istio's default)."""
    if context.proxy.role is Role.GATEWAY:
        yield from context.recall(_gateway)
    else:
        yield from context.recall(_inbound)
        yield from context.recall(_discovered)
        outbound = context.recall(_outbound)
        yield from outbound
        if any(built.name == OUTBOUND_ROUTES for built in outbound):
            yield context.recall(build_proxy_routes)
    yield from context.recall(_metrics_export)
    yield from context.recall(_decisions)
    yield from context.recall(_providers_of_logins)
    yield from context.recall(_named)
    yield from context.recall(_fallbacks)


def _gateway(context: Context) -> tuple[Built, ...]:
    return tuple(build_gateway(context))


def _decisions(context: Context) -> tuple[Built, ...]:
    return tuple(build_decision_clusters(context))


def _providers_of_logins(context: Context) -> tuple[Built, ...]:
    return tuple(build_provider_clusters(context))


def _metrics_export(context: Context) -> tuple[Built, ...]:
    return tuple(build_metrics_export(context))


def _inbound(context: Context) -> tuple[Built, ...]:
    workload = context.mesh.workload_of(context.proxy)
    return tuple(build_workload(context, workload)) if workload is not None else ()


def _discovered(context: Context) -> tuple[Built, ...]:
    workload = context.mesh.workload_of(context.proxy)
    return tuple(build_discovered(context, workload)) if workload is not None else ()


def _outbound(context: Context) -> tuple[Built, ...]:
    workload = context.mesh.workload_of(context.proxy)
    if workload is None:
        return ()
    called = (*build_outbound_proxy(context, workload), *build_upstreams(context, workload))
    return (*called, *build_capture(context, workload))


def _fallbacks(context: Context) -> tuple[Built, ...]:
    origins = (context.proxy.origin,)
    black_hole = build(BLACK_HOLE, build_black_hole(), origins)
    return (black_hole, build(PASSTHROUGH, build_passthrough(), origins)) if context.passes_through else (black_hole,)


def _all_services(context: Context) -> Layer:
    """The clusters and endpoints of every service: the same for every sidecar."""
    return layer(
        built
        for service in context.mesh.services.values()
        for port in service.ports
        for subset in (None, *service.policy.subsets)
        for built in context.recall(_build_target, service, port, subset)
    )


def _all_services_by_relay(context: Context) -> Layer:
    """As :func:`_all_services`, for the sidecars that have a network of their own."""
    services = context.recall(_all_services).resources
    return layer(context.recall(_by_relay, built) for of_type in services.values() for built in of_type.values())


def _by_relay(context: Context, built: Built) -> Built:
    return by_relay(built, context.world.sockets)


def _named(context: Context) -> tuple[Built, ...]:
    targets = context.recall(_targets)
    return tuple(built for target in targets for built in context.recall(_build_target, *target))


def _targets(context: Context) -> tuple[Target, ...]:
    """What the proxy may send to: a gateway, what its routes name; every proxy, the authorizers it asks."""
    named = [*_providers(context), *(_gateway_destinations(context) if context.proxy.role is Role.GATEWAY else ())]
    once = {(each.host, each.port, each.subset): each for each in named}
    found = (context.resolve(destination) for destination in once.values())
    return tuple(target for target in found if target is not None)


def _gateway_destinations(context: Context) -> Iterator[Destination]:
    keys = tuple(gateway.key for gateway in context.mesh.gateways_of(context.proxy))
    for key in keys:
        for table in context.mesh.routes_at(key):
            yield from _destinations(table)
    for connections in context.mesh.l4_routes:
        if not set(keys).isdisjoint(connections.gateways):
            for one in (*connections.tcp, *connections.tls):
                yield from one.destinations


def _destinations(table: RouteTable) -> Iterator[Destination]:
    return (each for one in table.routes if isinstance(one.action, Forward) for each in one.action.targets)


def _providers(context: Context) -> Iterator[Destination]:
    for policy in authorization_policies(context):
        if policy.action is Action.CUSTOM and policy.provider is not None:
            provider = context.mesh.settings.provider(policy.provider)
            if provider is not None and provider.rego is None:
                yield Destination(provider.host, provider.port)
    yield from receivers(context)


def _build_target(context: Context, service: Service, port: ServicePort, subset: Subset | None) -> tuple[Built, ...]:
    """A cluster and, where they come by EDS, its endpoints."""
    found = in_subset(backends(context.mesh, context.world, service, port), subset)
    # A client's own certificate is its namespace's: only such a cluster asks for the proxy at all.
    credential = credential_wanted(context.mesh, context.proxy, service, port, subset)
    cluster = build_outbound(
        service, port, subset, found, credential, context.mesh.trust_domains, context.world.revoked
    )
    origins = (service.origin, *service.policy.origins)
    built = build(cluster.name, cluster, origins)
    if not cluster.HasField("eds_cluster_config"):
        return (built,)
    return built, build(cluster.name, build_load_assignment(cluster.name, found), origins)
