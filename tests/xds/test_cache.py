from __future__ import annotations

from collections.abc import Mapping

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.compile import Compiler
from isthmus.control.offline import offline_world
from isthmus.model.mesh import Mesh
from isthmus.xds.cache import Memory
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, Snapshot
from isthmus.xds.translate import translate
from tests.xds.making import compiled, entry, gateway, networking, security, service
from tests.xds.pool import STATES, loaded

CLUSTERS = "outbound|8080||cart.shop.svc.cluster.local"


def turn(memory: Memory, mesh: Mesh) -> dict[str, Snapshot]:
    memory.begin(mesh, offline_world(mesh))
    found = {proxy.id: translate(mesh, memory.questions.subjects["world"], proxy, memory) for proxy in mesh.proxies}
    memory.end()
    return found


def alone(mesh: Mesh) -> dict[str, Snapshot]:
    """Without any memory, or another proxy's help."""
    return {proxy.id: translate(mesh, offline_world(mesh), proxy) for proxy in mesh.proxies}


def contents(snapshots: Mapping[str, Snapshot]) -> dict[str, object]:
    """Everything there is to see: names, bytes, versions and origins."""
    return {
        proxy: (
            found.version,
            {
                type_url: sorted((built.name, built.version, built.wire, built.origins) for built in of_type.values())
                for type_url, of_type in sorted(found.resources.items())
            },
        )
        for proxy, found in snapshots.items()
    }


CART = (service("cart"), entry("cart-1"), entry("cart-2"))


def test_proxies_share_what_is_the_same_and_get_what_they_would_alone() -> None:
    mesh = compiled(*CART).mesh
    given_ = turn(Memory(), mesh)
    one, other = given_.values()
    for type_url in (CLUSTER, ENDPOINT):
        assert one.of(type_url)[CLUSTERS] is other.of(type_url)[CLUSTERS]
    assert one.of(ENDPOINT) is other.of(ENDPOINT)
    assert one.of(ROUTE)["outbound"] is other.of(ROUTE)["outbound"]
    assert contents(given_) == contents(alone(mesh))


def test_a_namespace_of_its_own_means_routes_of_its_own() -> None:
    mesh = compiled(*CART, service("cart", namespace="store"), entry("cart-3", "store")).mesh
    found = turn(Memory(), mesh)
    here, there = found["sidecar~shop~cart-1"], found["sidecar~store~cart-3"]
    assert here.of(ROUTE)["outbound"] != there.of(ROUTE)["outbound"]
    assert contents(found) == contents(alone(mesh))


def test_what_nobody_asked_for_costs_nothing() -> None:
    memory = Memory()
    first = turn(memory, compiled(*CART).mesh)
    made = memory.runs
    again = turn(memory, compiled(*CART).mesh)
    assert memory.runs == made
    assert all(again[proxy] is first[proxy] for proxy in first)


def test_another_namespaces_policy_is_nobodys_business() -> None:
    memory = Memory()
    first = turn(memory, compiled(*CART).mesh)
    elsewhere = security("AuthorizationPolicy", "deny", "{action: DENY, rules: [{}]}", "store")
    again = turn(memory, compiled(*CART, elsewhere).mesh)
    assert all(again[proxy] is first[proxy] for proxy in first)
    here = security("AuthorizationPolicy", "deny", "{selector: {matchLabels: {app: cart}}, action: DENY, rules: [{}]}")
    denied = turn(memory, compiled(*CART, here).mesh)
    assert not any(denied[proxy].version == first[proxy].version for proxy in first)


def test_one_endpoint_is_one_resource() -> None:
    memory = Memory()
    users = (service("users"), entry("users-1"))
    first = turn(memory, compiled(*CART, *users).mesh)
    made = memory.runs
    again = turn(memory, compiled(*CART, *users, entry("users-2")).mesh)
    before, after = first["sidecar~shop~cart-1"], again["sidecar~shop~cart-1"]
    changed = {
        (type_url.rpartition(".")[2], name)
        for type_url, of_type in after.resources.items()
        for name, built in of_type.items()
        if before.of(type_url).get(name) is not built
    }
    assert changed == {("ClusterLoadAssignment", "outbound|8080||users.shop.svc.cluster.local")}
    assert memory.runs - made < 20


ROUTES = networking(
    "VirtualService", "web", "{hosts: [HOST], gateways: [edge], http: [{route: [{destination: WHERE}]}]}"
)


def route(name: str, destination: str) -> str:
    made = ROUTES.replace("name: web", f"name: {name}").replace("HOST", f"{name}.example.com")
    return made.replace("WHERE", destination)


def test_one_route_is_made_once_and_the_listener_stays() -> None:
    memory = Memory()
    rest = (*CART, gateway(hosts="*"), route("b", "{host: cart}"))
    first = turn(memory, compiled(*rest, route("a", "{host: cart}")).mesh)["gateway~shop~edge"]
    again = turn(memory, compiled(*rest, route("a", "{host: cart, port: {number: 8080}}")).mesh)["gateway~shop~edge"]
    assert first == again, "the same, said in another way"
    moved = turn(memory, compiled(*rest, route("a", "{host: nobody}")).mesh)["gateway~shop~edge"]
    assert moved.of(LISTENER) == first.of(LISTENER)
    assert moved.of(ROUTE) != first.of(ROUTE)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STATES, min_size=2, max_size=6))
def test_incremental_output_is_full_output(states: list[tuple[int, ...]]) -> None:
    """After any edits, in any order: names, bytes, versions, origins and findings are those of a fresh start."""
    compiler, memory = Compiler(), Memory()
    good, fresh_good = {}, {}
    for state in states:
        now = loaded(state)
        kept = compiler.compile(now.documents, good, now.broken)
        anew = loaded(state)
        fresh = Compiler().compile(anew.documents, fresh_good, anew.broken)
        good, fresh_good = kept.good, fresh.good
        assert kept.diagnostics == fresh.diagnostics
        assert contents(turn(memory, kept.mesh)) == contents(alone(fresh.mesh))


def test_memory_does_not_grow_with_what_is_gone() -> None:
    memory = Memory()
    sizes = []
    for number in range(12):
        turn(memory, compiled(*CART, service(f"s{number}"), entry(f"s{number}-1")).mesh)
        sizes.append((len(memory._of_one), len(memory._shared), len(memory.questions._known)))
    assert sizes[2] == sizes[-1]
