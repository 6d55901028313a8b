from __future__ import annotations

import pytest

from isthmus.model.route import Destination
from isthmus.xds.context import Context

from .making import compiled, context_of, entry, gateway, mesh_config, networking, service

RULE = networking("DestinationRule", "orders", "{host: orders, subsets: [{name: v1, labels: {version: v1}}]}")
ORDERS = "orders.shop.svc.cluster.local"
ANY_HOST = networking(
    "ServiceEntry", "any", "hosts: ['*.example.com']\nports: [{number: 80, name: http, protocol: HTTP}]"
)
CLOSED = mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")


def context(*texts: str, proxy: str = "sidecar~shop~web-1") -> Context:
    return context_of(compiled(service("orders"), RULE, entry("web-1"), gateway(), *texts).mesh, proxy)


@pytest.mark.parametrize(
    ("destination", "cluster"),
    [
        (Destination(ORDERS, 8080), f"outbound|8080||{ORDERS}"),
        (Destination(ORDERS, 8080, "v1"), f"outbound|8080|v1|{ORDERS}"),
        (Destination(ORDERS, 8080, "v2"), "BlackHoleCluster"),
        (Destination(ORDERS, 8081), "BlackHoleCluster"),
        (Destination(ORDERS, 0), "BlackHoleCluster"),
        (Destination("nobody", 8080), "BlackHoleCluster"),
    ],
)
def test_what_a_destination_means(destination: Destination, cluster: str) -> None:
    assert context().cluster_of(destination) == cluster
    assert (context().resolve(destination) is None) is (cluster == "BlackHoleCluster")


def test_a_host_that_resolves_to_itself_is_for_sidecars() -> None:
    destination = Destination("*.example.com", 80)
    assert context(ANY_HOST).cluster_of(destination) == "PassthroughCluster"
    assert context(ANY_HOST, CLOSED).cluster_of(destination) == "PassthroughCluster"
    assert context(ANY_HOST, proxy="gateway~shop~edge").cluster_of(destination) == "BlackHoleCluster"


def test_who_may_send_requests_where_they_say() -> None:
    assert context().passes_through
    assert not context(CLOSED).passes_through
    assert context(CLOSED, ANY_HOST).passes_through
    assert not context(ANY_HOST, proxy="gateway~shop~edge").passes_through
