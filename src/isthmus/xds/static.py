"""A proxy's whole configuration as one static bootstrap: what ``isthmus compile`` prints and Envoy can validate.

Routes and endpoints stand in place, because ``envoy --mode validate`` passes references by RDS and EDS unlooked at.
Only keys stay references, to the agent's SDS.
"""

from __future__ import annotations

from typing import Any

from isthmus.envoy_api import Message, any_of, unpack
from isthmus.envoy_api.packages import bootstrap_v3, cluster_v3, core_v3
from isthmus.model.proxy import Proxy
from isthmus.xds.bootstrap import build_agent_cluster, build_internal_listener_extension, build_runtime
from isthmus.xds.handshake import TELLING
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, Snapshot, message

_HCM = "envoy.filters.network.http_connection_manager"


def build_static(snapshot: Snapshot, proxy: Proxy, sds_socket: str) -> Any:
    """An envoy.config.bootstrap.v3.Bootstrap with everything in ``snapshot``, and no control plane."""
    routes = {name: message(built) for name, built in snapshot.of(ROUTE).items()}
    extensions: dict[str, Any] = {name: message(built) for name, built in snapshot.of(EXTENSION).items()}
    assignments = {name: message(built) for name, built in snapshot.of(ENDPOINT).items()}
    static = bootstrap_v3.Bootstrap.StaticResources(
        listeners=[_in_place(message(built), routes, extensions) for built in snapshot.of(LISTENER).values()],
        clusters=[
            build_agent_cluster(sds_socket),
            *(_with_endpoints(message(built), assignments) for built in snapshot.of(CLUSTER).values()),
        ],
    )
    node = core_v3.Node(id=proxy.id, cluster=f"{proxy.name}.{proxy.namespace}")
    return bootstrap_v3.Bootstrap(
        node=node,
        static_resources=static,
        layered_runtime=build_runtime(),
        bootstrap_extensions=[build_internal_listener_extension()],
    )


def _in_place(listener: Any, routes: dict[str, Message], extensions: dict[str, Any]) -> Any:
    # There is no control plane to tell anything.
    kept = [log for log in listener.access_log if log.name != TELLING]
    del listener.access_log[:]
    listener.access_log.extend(kept)
    for chain in listener.filter_chains:
        for filter_ in chain.filters:
            if filter_.name == _HCM:
                hcm: Any = unpack(filter_.typed_config)
                if hcm.HasField("rds"):
                    hcm.route_config.CopyFrom(_strict(routes[hcm.rds.route_config_name]))
                for http_filter in hcm.http_filters:
                    if http_filter.HasField("config_discovery"):
                        http_filter.typed_config.CopyFrom(extensions[http_filter.name].typed_config)
                filter_.typed_config.CopyFrom(any_of(hcm))
    return listener


def _strict(configuration: Any) -> Any:
    """With the clusters beside them, routes to an unknown cluster are an error worth finding."""
    configuration.ClearField("validate_clusters")
    return configuration


def _with_endpoints(cluster: Any, assignments: dict[str, Message]) -> Any:
    if cluster.HasField("eds_cluster_config"):
        cluster.ClearField("eds_cluster_config")
        cluster.type = cluster_v3.Cluster.STATIC
        cluster.load_assignment.CopyFrom(assignments[cluster.name])
    return cluster
