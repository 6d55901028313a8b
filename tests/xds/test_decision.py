"""The clusters of the node's decision services."""

from __future__ import annotations

from typing import Any

from isthmus.diag import Origin, Ref, Source
from isthmus.model.decision import DecisionService
from isthmus.model.identity import Identity
from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Proxy, Role
from isthmus.model.world import Address, PortKey, World
from isthmus.xds.context import Context
from isthmus.xds.decision import build_decision_clusters, decision_cluster
from isthmus.xds.snapshot import message

ID = "gateway~shop~edge"
PROXY = Proxy(
    Role.GATEWAY,
    "edge",
    "shop",
    {},
    Identity("cluster.local", "shop", "edge"),
    Origin(Ref("Gateway", "shop", "edge"), Source("a.yaml", 1, 1)),
)


def clusters(world: World) -> dict[str, Any]:
    return {built.name: message(built) for built in build_decision_clusters(Context(Mesh(), world, PROXY))}


def test_one_for_each_service_with_an_endpoint_a_process() -> None:
    places = [
        (ID, "rego", 0, "/run/rego-0.decide"),
        (ID, "rego", 1, "/run/rego-1.decide"),
        (ID, "limits", 0, "/run/limits-0.decide"),
        ("another", "credentials", 0, "/run/elsewhere.decide"),
    ]
    world = World({PortKey(proxy, name, index): Address.unix(path) for proxy, name, index, path in places})
    found = clusters(world)
    assert list(found) == ["isthmus_rego", "isthmus_limits"]
    endpoints = found[decision_cluster(DecisionService.REGO)].load_assignment.endpoints[0].lb_endpoints
    assert [one.endpoint.address.pipe.path for one in endpoints] == ["/run/rego-0.decide", "/run/rego-1.decide"]


def test_where_nothing_is_asked_there_is_none() -> None:
    assert clusters(World()) == {}
