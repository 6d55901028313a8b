from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from isthmus.control.nodes import GRACE, Health, Nodes
from isthmus.errors import EnvoyFailed, NotEnrolled, Refused
from isthmus.model.offer import GatewayOffer, Offer, Scope, SidecarOffer
from tests.real.pki import Authority, Leaf

EDGE = GatewayOffer("shop", "edge", "10.0.0.2", "/run/isthmus")
ORDERS = SidecarOffer("shop", "orders", "10.0.0.3", "/run/isthmus", 20001)
MESH = Authority("mesh")


class Files:
    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        return self.content.get(name)

    def write_private(self, name: str, data: bytes) -> None:
        self.content[name] = data


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


class World:
    """Nodes, what they keep, and how often they told of a change."""

    def __init__(self) -> None:
        self.files, self.clock, self.told = Files(), Clock(), 0
        self.nodes = self.started()

    def started(self) -> Nodes:
        """The next process on the same state."""
        self.nodes = Nodes(self.files, self.clock, changed=self._tell)
        return self.nodes

    def _tell(self) -> None:
        self.told += 1

    def certified(self, name: str, identity: str) -> Leaf:
        leaf = MESH.issue(identity)
        self.nodes.certified(name, identity, leaf.pem.decode())
        return leaf

    def joined(self, name: str, offer: Offer) -> Leaf:
        self.nodes.admit(name, offer.scope)
        return self.certified(name, f"spiffe://cluster.local/isthmus/node/{name}")


@pytest.fixture
def world() -> World:
    return World()


def test_a_node_carries_what_it_offers_while_it_is_connected(world: World) -> None:
    own = world.joined("edge-1", EDGE)
    world.nodes.check("edge-1", own.pem)
    assert world.nodes.offers == {}
    session = world.nodes.begin("edge-1", EDGE, "10.0.0.2")
    assert (world.nodes.offers, world.nodes.connected("edge-1")) == ({"edge-1": EDGE}, True)
    world.nodes.end(session)
    assert (world.nodes.offers, world.nodes.connected("edge-1")) == ({"edge-1": EDGE}, False)


def test_what_a_lost_node_carries_goes_after_the_grace(world: World) -> None:
    world.joined("edge-1", EDGE)
    world.nodes.end(world.nodes.begin("edge-1", EDGE, "10.0.0.2"))
    world.clock.now += GRACE
    world.nodes.forget_the_lost()
    assert world.nodes.offers == {"edge-1": EDGE}
    world.clock.now += timedelta(seconds=1)
    told = world.told
    world.nodes.forget_the_lost()
    assert (world.nodes.offers, world.told) == ({}, told + 1)
    assert "edge-1" in world.nodes.members, "it may come back"


def test_a_node_that_leaves_in_order_goes_at_once(world: World) -> None:
    world.joined("edge-1", EDGE)
    world.nodes.leave(world.nodes.begin("edge-1", EDGE, "10.0.0.2"))
    assert world.nodes.offers == {}


def test_the_next_process_waits_for_them_for_the_grace(world: World) -> None:
    own = world.joined("edge-1", EDGE)
    session = world.nodes.begin("edge-1", EDGE, "10.0.0.2")
    world.nodes.reported(session, Health(True))
    again = world.started()
    again.check("edge-1", own.pem)
    assert (again.offers, again.well) == ({"edge-1": EDGE}, {"edge-1"})
    again.forget_the_lost()
    assert again.offers == {"edge-1": EDGE}
    world.clock.now += GRACE + timedelta(seconds=1)
    again.forget_the_lost()
    assert again.offers == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"[", b'{"members": [{}], "evicted": {}}'])
def test_a_file_that_cannot_be_understood_lets_nobody_in(world: World, content: bytes) -> None:
    own = world.joined("edge-1", EDGE)
    world.files.content["nodes.json"] = content
    with pytest.raises(NotEnrolled, match="not known here"):
        world.started().check("edge-1", own.pem)


def test_a_node_is_what_it_was_let_in_for(world: World) -> None:
    world.joined("edge-1", EDGE)
    for other in (ORDERS, GatewayOffer("shop", "inner", "10.0.0.2", "/run")):
        with pytest.raises(Refused, match="was let in as gateway:shop/edge, not as"):
            world.nodes.begin("edge-1", other, "10.0.0.2")


def test_a_gateway_is_carried_once_and_programs_many_times(world: World) -> None:
    for name, offer in (("edge-1", EDGE), ("edge-2", EDGE), ("vm-1", ORDERS), ("vm-2", ORDERS)):
        world.joined(name, offer)
    world.nodes.begin("edge-1", EDGE, "10.0.0.2")
    with pytest.raises(Refused, match="the node edge-1 carries this already"):
        world.nodes.begin("edge-2", EDGE, "10.0.0.9")
    world.nodes.begin("vm-1", ORDERS, "10.0.0.3")
    world.nodes.begin("vm-2", ORDERS, "10.0.0.4")


def test_an_evicted_node_is_refused_at_once_with_all_it_has(world: World) -> None:
    identity = "spiffe://cluster.local/ns/shop/sa/orders"
    own, proxy = world.joined("vm-1", ORDERS), world.certified("vm-1", identity)
    other = world.joined("vm-2", ORDERS), world.certified("vm-2", identity)
    session = world.nodes.begin("vm-1", ORDERS, "10.0.0.3")
    world.nodes.check_proxy(proxy.pem, "vm-1")
    assert len(world.nodes.evict("vm-1")) == 2
    assert session.ended.value is not None
    assert world.nodes.offers == {}
    for nodes in (world.nodes, world.started()):
        assert nodes.evicted.keys() == {"vm-1"}
        assert identity in nodes.denied
        with pytest.raises(NotEnrolled, match="was evicted: it needs a new join token"):
            nodes.check("vm-1", own.pem)
        for node in ("vm-1", "vm-2", ""):
            with pytest.raises(NotEnrolled, match="which was evicted"):
                nodes.check_proxy(proxy.pem, node)
        nodes.check("vm-2", other[0].pem)
        nodes.check_proxy(other[1].pem, "vm-2")


def test_let_in_again_it_is_another(world: World) -> None:
    old = world.joined("vm-1", ORDERS)
    world.nodes.evict("vm-1")
    new = world.joined("vm-1", ORDERS)
    assert world.nodes.evicted == {}
    world.nodes.check("vm-1", new.pem)
    with pytest.raises(NotEnrolled):
        world.nodes.check("vm-1", old.pem)


def test_what_an_evicted_node_had_is_remembered_until_it_ends(world: World) -> None:
    world.joined("vm-1", ORDERS)
    world.nodes.evict("vm-1")
    assert world.nodes.denied
    world.clock.now += timedelta(days=3650)
    world.nodes.forget_the_lost()
    assert world.nodes.denied == frozenset()
    assert b"serial" not in world.files.content["nodes.json"]


def test_a_certificate_of_one_node_is_of_no_use_to_another(world: World) -> None:
    world.joined("vm-1", ORDERS)
    leaf = world.certified("vm-1", "spiffe://cluster.local/ns/shop/sa/orders")
    with pytest.raises(NotEnrolled, match="was given to the node vm-1, not to vm-2"):
        world.nodes.check_proxy(leaf.pem, "vm-2")


def test_a_second_connection_ends_the_first(world: World) -> None:
    world.joined("vm-1", ORDERS)
    first = world.nodes.begin("vm-1", ORDERS, "10.0.0.3")
    second = world.nodes.begin("vm-1", ORDERS, "10.0.0.3")
    assert first.ended.value is not None
    assert "another connected as vm-1, with a copy of this state" in first.ended.value
    world.nodes.end(first)
    assert world.nodes.connected("vm-1")
    world.nodes.reported(first, Health(True))
    assert world.nodes.well == frozenset(), "what the first still says does not count"
    world.nodes.reported(second, Health(True))
    assert world.nodes.well == {"vm-1"}


async def asked(world: World, answer: object) -> str:
    """What a machine is asked, and what is made of what it says to it."""
    world.joined("edge-1", EDGE)
    session = world.nodes.begin("edge-1", EDGE, "10.0.0.2")
    asking = asyncio.create_task(world.nodes.look("edge-1", "gateway~shop~edge", "seen"))
    question = (await session.questions.get())["look"]
    assert (question["proxy"], question["known"]) == ("gateway~shop~edge", "seen")
    world.nodes.answered(session, question["id"] + 1, "to nobody's question")
    world.nodes.answered(session, question["id"], answer)
    return await asking


async def test_a_machine_says_what_its_envoy_runs(world: World) -> None:
    assert await asked(world, "what it runs") == "what it runs"


@pytest.mark.parametrize("answer", [None, 7, ["x"], {}])
async def test_what_is_no_text_is_no_answer(world: World, answer: object) -> None:
    with pytest.raises(EnvoyFailed, match="the node edge-1 does not say what gateway~shop~edge does"):
        await asked(world, answer)


async def test_who_is_not_connected_is_not_asked(world: World) -> None:
    with pytest.raises(EnvoyFailed, match="not connected"):
        await world.nodes.look("edge-1", "gateway~shop~edge", "")


def test_nobody_evicts_a_stranger(world: World) -> None:
    with pytest.raises(Refused, match='there is no node "x"'):
        world.nodes.evict("x")


def test_who_is_out_is_not_put_out_again(world: World) -> None:
    world.nodes.admit("vm-1", ORDERS.scope)
    world.nodes.evict("vm-1")
    with pytest.raises(Refused, match='the node "vm-1" is out already'):
        world.nodes.evict("vm-1")


def test_a_scope_reads_back() -> None:
    for scope in (EDGE.scope, ORDERS.scope, SidecarOffer("a", "b", "::1", "/r", 1, group="c").scope):
        assert Scope.parse(str(scope)) == scope
    for wrong in ("", "gateway", "gateway:a", "gateway:/a", "other:a/b"):
        with pytest.raises(ValueError, match=r".+"):
            Scope.parse(wrong)


def test_a_machine_that_joins_under_a_name_ends_what_another_had_of_it(world: World) -> None:
    first = world.joined("edge-1", EDGE)
    second = world.certified("edge-1", "spiffe://cluster.local/isthmus/node/edge-1")
    world.nodes.admit("edge-1", ORDERS.scope, second.pem.decode())
    world.nodes.check("edge-1", second.pem)
    with pytest.raises(NotEnrolled, match="joined as edge-1 since"):
        world.nodes.check("edge-1", first.pem)
    assert world.started().denied_certificates == ()
    with pytest.raises(NotEnrolled):
        world.nodes.check("edge-1", first.pem)
