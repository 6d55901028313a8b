from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from isthmus.compile import Compiled, Compiler
from isthmus.control.offline import offline_world
from isthmus.model.mesh import Mesh
from isthmus.model.world import World
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, Snapshot
from isthmus.xds.translate import translate

from .making import compiled, entry, gateway, given_by, mesh_config, networking, security, service
from .making import given as given_to
from .pool import SLOTS, STATES, loaded

SIDECAR = "sidecar~shop~orders-1"
EDGE = "gateway~shop~edge"
TO_ORDERS = networking(
    "VirtualService",
    "shop",
    "{hosts: [shop.example.com], gateways: [edge], http: [{route: [{destination: {host: orders}}]}]}",
)
SHOP = (service("orders"), service("users"), entry("orders-1"), entry("users-1"), gateway(), TO_ORDERS)


def snapshots(mesh: Mesh) -> dict[str, Snapshot]:
    world = offline_world(mesh)
    return {proxy.id: translate(mesh, world, proxy) for proxy in mesh.proxies}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STATES, min_size=2, max_size=5))
def test_what_was_compiled_before_changes_nothing(states: list[tuple[int, ...]]) -> None:
    """Incremental output is full output: a Compiler's memory saves time, never more."""
    compiler, before = Compiler(), Compiled(Mesh(), (), {})
    for state in states:
        now = loaded(state)
        fresh = Compiler().compile(now.documents, before.good, now.broken)
        kept = compiler.compile(now.documents, before.good, now.broken)
        assert kept.mesh == fresh.mesh
        assert kept.diagnostics == fresh.diagnostics
        assert kept.good.keys() == fresh.good.keys()
        assert snapshots(kept.mesh) == snapshots(fresh.mesh)
        event(f"{len(kept.mesh.proxies)} proxies, {bool(now.broken)}")
        before = kept


def test_every_document_of_the_pool_is_what_it_should_be() -> None:
    """Or the property above would say less than it seems to."""
    for index in range(len(SLOTS)):
        for choice, good in ((1, True), (2, True), (3, False), (4, False)):
            state = [0] * (len(SLOTS) + 1)
            state[index + 1] = choice
            now = loaded(tuple(state))
            done = Compiler().compile(now.documents, {}, now.broken)
            assert bool(done.good) is good, SLOTS[index][choice]
            assert bool(now.broken) is (choice == 4)


def test_the_same_manifests_give_the_same_bytes_in_every_process() -> None:
    program = (
        "import sys;"
        "from tests.xds.test_translate import SHOP, snapshots;"
        "from tests.xds.making import compiled;"
        "print({id: snapshot.version for id, snapshot in snapshots(compiled(*SHOP).mesh).items()})"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
    assert EDGE.encode() in seen.pop()


def test_sidecars_of_one_namespace_have_the_same_clusters_and_endpoints() -> None:
    """But for what is each one's own: its inbound clusters. Whoever keeps resources by content keeps them once."""
    found = snapshots(compiled(*SHOP).mesh)
    orders, users = found[SIDECAR], found["sidecar~shop~users-1"]
    for type_url in (CLUSTER, ENDPOINT):
        mine, theirs = orders.of(type_url), users.of(type_url)
        shared = [name for name in mine if name.startswith("outbound|")]
        assert shared
        assert [mine[name] for name in shared] == [theirs[name] for name in shared]
    for name in ("BlackHoleCluster", "PassthroughCluster", "connect"):
        assert orders.of(CLUSTER)[name].wire == users.of(CLUSTER)[name].wire


def test_a_gateway_has_the_clusters_that_its_routes_name() -> None:
    found = given_by(EDGE, *SHOP)
    assert found.names(CLUSTER) == ["outbound|8080||orders.shop.svc.cluster.local", "BlackHoleCluster"]
    assert found.names(ENDPOINT) == ["outbound|8080||orders.shop.svc.cluster.local"]
    assert found.names(LISTENER) == ["gateway_80"]
    assert found.names(ROUTE) == ["http.80"]


def test_a_route_of_another_gateway_brings_no_cluster() -> None:
    other = networking(
        "VirtualService",
        "other",
        "{hosts: [shop.example.com], gateways: [other], http: [{route: [{destination: {host: users}}]}]}",
    )
    assert "outbound|8080||users.shop.svc.cluster.local" not in given_by(EDGE, *SHOP, other).names(CLUSTER)


def test_a_sidecar_has_a_cluster_for_each_service_port_and_subset() -> None:
    rule = networking("DestinationRule", "orders", "{host: orders, subsets: [{name: v1, labels: {version: v1}}]}")
    names = given_by(SIDECAR, *SHOP, rule).names(CLUSTER)
    assert sorted(names) == sorted(
        [
            "inbound|8080||",
            "connect",
            "outbound|8080||orders.shop.svc.cluster.local",
            "outbound|8080|v1|orders.shop.svc.cluster.local",
            "outbound|8080||users.shop.svc.cluster.local",
            "BlackHoleCluster",
            "PassthroughCluster",
        ]
    )


def test_only_a_sidecar_passes_through_and_only_where_any_host_is_allowed() -> None:
    closed = mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
    assert "PassthroughCluster" in given_by(SIDECAR, *SHOP).names(CLUSTER)
    assert "PassthroughCluster" not in given_by(SIDECAR, *SHOP, closed).names(CLUSTER)
    assert "PassthroughCluster" not in given_by(EDGE, *SHOP).names(CLUSTER)


@pytest.mark.parametrize("proxy", [EDGE, SIDECAR])
def test_an_external_authorizer_has_a_cluster_where_it_is_asked(proxy: str) -> None:
    provider = mesh_config("""\
        extensionProviders:
        - name: opa
          envoyExtAuthzGrpc: {service: opa.auth.svc.cluster.local, port: 9191}
        """)
    ask = security("AuthorizationPolicy", "ask", "action: CUSTOM\nprovider: {name: opa}\nrules: [{}]")
    opa = service("opa", "{name: grpc, port: 9191}", "auth")
    cluster = "outbound|9191||opa.auth.svc.cluster.local"
    assert cluster in given_by(proxy, *SHOP, provider, opa, ask).names(CLUSTER)
    if proxy == EDGE:
        assert cluster not in given_by(proxy, *SHOP, provider, opa).names(CLUSTER)


def test_nothing_is_opened_where_no_address_is_known() -> None:
    mesh = compiled(*SHOP).mesh
    for proxy in (SIDECAR, EDGE):
        found = given_to(mesh, proxy, World())
        assert found.names(LISTENER) == []
        assert found.names(ROUTE) == []
    assert given_to(mesh, SIDECAR, World()).endpoints("outbound|8080||orders.shop.svc.cluster.local") == []


def test_resources_name_the_manifests_they_are_made_of() -> None:
    mesh = compiled(*SHOP).mesh
    routes = snapshots(mesh)[EDGE].of(ROUTE)["http.80"]
    assert [one.ref.kind for one in routes.origins] == ["VirtualService", "Gateway"]
    cluster = snapshots(mesh)[EDGE].of(CLUSTER)["outbound|8080||orders.shop.svc.cluster.local"]
    assert [str(one.ref) for one in cluster.origins] == ["Service/shop/orders"]
