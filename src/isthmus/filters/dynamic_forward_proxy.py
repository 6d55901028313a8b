"""Sends a request where its authority says, looked up in DNS: outbound traffic to hosts outside the mesh.

It acts only on routes to a dynamic forward proxy cluster, which must share :func:`dns_cache` with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isthmus.envoy_api.packages import (
    cluster_v3,
    dynamic_forward_proxy_common_v3,
    http_dynamic_forward_proxy_v3,
)
from isthmus.filters.filter import Filter, http_filter

NAME = "envoy.filters.http.dynamic_forward_proxy"


@dataclass(frozen=True, slots=True)
class DynamicForwardProxy:
    """``cache`` is the name of the DNS cache, the same for this filter and its clusters."""

    cache: str = "outbound"


def dns_cache(config: DynamicForwardProxy) -> Any:
    """The ``DnsCacheConfig`` for filter and cluster: Envoy demands that both are equal."""
    return dynamic_forward_proxy_common_v3.DnsCacheConfig(
        name=config.cache, dns_lookup_family=cluster_v3.Cluster.V4_PREFERRED
    )


def _build(config: DynamicForwardProxy) -> tuple[Any, ...]:
    return (http_filter(NAME, http_dynamic_forward_proxy_v3.FilterConfig(dns_cache_config=dns_cache(config))),)


DYNAMIC_FORWARD_PROXY = Filter(NAME, DynamicForwardProxy, _build)
