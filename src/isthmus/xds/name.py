"""Names of resources, in Istio's forms, which people's dashboards and habits know."""

from __future__ import annotations

BLACK_HOLE = "BlackHoleCluster"
"""No endpoint: what cannot be resolved answers 503."""
PASSTHROUGH = "PassthroughCluster"
"""Any host that a program names itself, where the outbound policy is ALLOW_ANY."""
OUTBOUND_ROUTES = "outbound"
METRICS_EXPORT = "metrics_export"
"""The cluster of an Envoy's own exporter of metrics, and the listener that takes it on."""

CONNECT = "connect"
"""Listener within the outbound proxy, and the cluster that leads to it: what a CONNECT to an HTTP port carries."""


CAPTURE = "capture"
"""The listener of connections that are redirected to the sidecar."""
CAPTURE_DNS = "capture_dns"
"""The listener that answers the names of services."""


def capture_routes(host: str, port: int) -> str:
    """Routes, and filter chains, of redirected connections to a port of a service."""
    return f"capture|{port}||{host}"


def l4_routes(host: str, port: int | str) -> str:
    """Listener within the outbound proxy, and its cluster: a CONNECT to a port whose connections have routes."""
    return f"connect|{port}||{host}"


def outbound_cluster(host: str, port: int, subset: str | None = None) -> str:
    return f"outbound|{port}|{subset or ''}|{host}"


def inbound_cluster(port: int) -> str:
    return f"inbound|{port}||"


def inbound_listener(port: int) -> str:
    return f"inbound_{port}"


def upstream_listener(index: int, host: str = "", port: int = 0) -> str:
    """Of a workload's upstream number ``index``; without the host only the beginning, which tells it already."""
    beginning = f"upstream_{index}_"
    return f"{beginning}{host}_{port}" if host else beginning


def gateway_listener(port: int) -> str:
    return f"gateway_{port}"


def server_routes(gateway: str, namespace: str, port: int, port_name: str, *, tls: bool) -> str:
    return f"https.{port}.{port_name}.{gateway}.{namespace}" if tls else f"http.{port}"
