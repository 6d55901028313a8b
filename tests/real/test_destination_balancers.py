"""loadBalancer: who gets the next request, at every level of a DestinationRule."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.real.destination import Case, Gate, Level, Server, Together, at_every_level, marked
from tests.real.traffic import Caller, Manifest, caller, dump
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

_ASKED = 400
_KEYS = 64
_SIMPLE = ("UNSPECIFIED", "LEAST_REQUEST", "LEAST_CONN", "RANDOM", "ROUND_ROBIN")


class Servers:
    def __init__(self, stack: ExitStack) -> None:
        self.three = [stack.enter_context(Server()) for _ in range(3)]
        self.broken = [stack.enter_context(Server(lambda saw: 500)) for _ in range(3)]
        self.gate = Gate()
        self.held = stack.enter_context(Server(lambda saw: self.gate(saw) if "/held" in saw.path else 200))


def cases(servers: Servers) -> dict[str, Case]:
    three = tuple(one.endpoint for one in servers.three)

    def hashed(name: str, **settings: Any) -> Case:
        return Case(name, {"loadBalancer": {"consistentHash": settings}}, three)

    cookie = {"name": "sticky", "ttl": "1h", "path": "/ruled"}
    found = [
        *(Case(f"simple-{one.lower()}".replace("_", "-"), {"loadBalancer": {"simple": one}}, three) for one in _SIMPLE),
        *(
            Case(f"busy-{one.lower()}".replace("_", "-"), {"loadBalancer": {"simple": one}}, _busy(servers))
            for one in _SIMPLE
        ),
        hashed("header", httpHeaderName="x-user"),
        Case(
            "again",
            {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}},
            tuple(one.endpoint for one in servers.broken),
            route={"retries": {"attempts": 2, "retryOn": "5xx"}},
        ),
        hashed("query", httpQueryParameterName="user"),
        hashed("cookie", httpCookie=cookie),
        hashed("session", httpCookie={"name": "sticky", "ttl": "0s"}),
        hashed("source", useSourceIp=True),
        hashed("ring", httpHeaderName="x-user", ringHash={"minimumRingSize": 2048}),
        hashed("old-ring", httpHeaderName="x-user", minimumRingSize=2048),
        hashed("table", httpHeaderName="x-user", maglev={"tableSize": 2}),
        hashed("whole-table", httpHeaderName="x-user", maglev={}),
    ]
    return {case.name: case for case in found}


def _busy(servers: Servers) -> tuple[Manifest, ...]:
    return servers.held.endpoint, servers.three[0].endpoint


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture(scope="module")
def servers(stack: ExitStack) -> Servers:
    return Servers(stack)


@pytest.fixture(scope="module")
def case(servers: Servers) -> dict[str, Case]:
    return cases(servers)


@pytest.fixture(scope="module")
def up(case: dict[str, Case], stack: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Up:
    folder = tmp_path_factory.mktemp("balancers")
    written = [manifest for one in case.values() for manifest in one.manifests()]
    return stack.enter_context(Up(folder, {"all.yaml": dump(caller("front", folder), *written)}))


@pytest.fixture(scope="module")
def front(up: Up) -> Caller:
    return Caller("front", up.folder)


def servers_of(front: Caller, url: str, count: int, **options: Any) -> list[int]:
    """The ports that one request after the other came to."""
    return [front.get(url, **options).json()["port"] for _ in range(count)]


def in_turns(found: list[int]) -> bool:
    return len(set(found)) == 3 and all(one == other for one, other in zip(found, found[3:], strict=False))


@at_every_level("loadBalancer.simple")
def test_in_turns_or_not(front: Caller, case: dict[str, Case], level: Level) -> None:
    """ROUND_ROBIN goes round; chance does not, 45 times in a row."""
    for name in _SIMPLE:
        url = case[f"simple-{name.lower()}".replace("_", "-")].url(level)
        assert in_turns(servers_of(front, url, 45)) is (name == "ROUND_ROBIN"), name
    assert not in_turns(servers_of(front, case["simple-round-robin"].url(level, ruled=False), 45))


def share_of_the_busy(front: Caller, url: str, servers: Servers) -> int:
    """How many of 400 requests one of two servers gets that has others under way."""
    servers.gate.close()
    # Chance alone decides who gets the first: that none of so many comes to it happens once in 10^7.
    with Together(front, *[f"{url}/held"] * 24) as asked:
        eventually(lambda: servers.held.busy + len(asked.answers) == 24, 60)
        try:
            assert servers.held.busy
            return servers_of(front, url, _ASKED).count(servers.held.port)
        finally:
            servers.gate.open()


@at_every_level("loadBalancer.simple")
def test_who_is_busy_is_spared(front: Caller, case: dict[str, Case], servers: Servers, level: Level) -> None:
    """Who looks for the less busy of two chosen by chance sends it a quarter, who does not a half.

    The bound between the two is five standard deviations from each.
    """
    assert share_of_the_busy(front, case["busy-least-request"].url(level), servers) < 150
    assert share_of_the_busy(front, case["busy-random"].url(level), servers) > 150


@pytest.mark.parametrize("name", ["UNSPECIFIED", "LEAST_CONN"])
def test_other_names_of_least_request(front: Caller, case: dict[str, Case], servers: Servers, name: str) -> None:
    url = case[f"busy-{name.lower()}".replace("_", "-")].url(Level.SERVICE)
    assert share_of_the_busy(front, url, servers) < 150


def sticks(front: Caller, url: str, **options: Any) -> bool:
    return len(set(servers_of(front, url, 20, **options))) == 1


def spreads(front: Caller, url: str, expected: int = 3) -> bool:
    """Whether many keys come to ``expected`` servers."""
    found = {front.get(url, headers={"x-user": str(key)}).json()["port"] for key in range(_KEYS)}
    return len(found) == expected


@at_every_level("loadBalancer.consistentHash.httpHeaderName")
def test_by_header(front: Caller, case: dict[str, Case], level: Level) -> None:
    url, other = case["header"].url(level), case["header"].url(level, ruled=False)
    assert all(sticks(front, url, headers={"x-user": user}) for user in ("alice", "bob", "carol"))
    assert spreads(front, url)
    assert not sticks(front, other, headers={"x-user": "alice"})
    assert not sticks(front, url), "a request without the header goes anywhere"


def test_retries_stay_where_they_belong(front: Caller, case: dict[str, Case], servers: Servers) -> None:
    """Others are tried elsewhere, where they have not been yet.

    Elsewhere is chosen by chance: Envoy draws again at most five times when it drew a host that had its turn
    (``hostSelectionRetryMaxAttempts``), so that of a hundred requests about nine ask a host twice. Without any regard
    for the hosts that had their turn, 78 of a hundred would.
    """

    def tried(*, ruled: bool) -> list[int]:
        url, mark = marked(case["again"].url(Level.PORT, ruled=ruled))
        assert front.status(url, headers={"x-user": "alice"}) == 500
        return sorted(sum(mark in saw.path for saw in one.seen) for one in servers.broken)

    assert all(tried(ruled=True) == [0, 0, 3] for _ in range(5))
    spread = sum(tried(ruled=False) == [1, 1, 1] for _ in range(40))
    assert spread >= 22, f"{spread} of 40"


@at_every_level("loadBalancer.consistentHash.httpQueryParameterName")
def test_by_query(front: Caller, case: dict[str, Case], level: Level) -> None:
    url, other = case["query"].url(level), case["query"].url(level, ruled=False)
    assert sticks(front, f"{url}?user=alice")
    assert len({front.get(f"{url}?user={key}").json()["port"] for key in range(_KEYS)}) == 3
    assert not sticks(front, f"{other}?user=alice")


@at_every_level(
    "loadBalancer.consistentHash.httpCookie.name",
    "loadBalancer.consistentHash.httpCookie.ttl",
    "loadBalancer.consistentHash.httpCookie.path",
)
def test_by_cookie(front: Caller, case: dict[str, Case], level: Level) -> None:
    """Who has none is given one, with the path and the time of the rule; who has one stays where it leads."""
    url = case["cookie"].url(level)
    with httpx.Client(proxy=front.env["http_proxy"], timeout=20, trust_env=False, verify=False) as client:
        first = client.get(url)
        (given,) = first.headers.get_list("set-cookie")
        value = given.partition("=")[2].partition(";")[0]
        assert given.startswith("sticky=")
        assert "Path=/ruled" in given
        assert "Max-Age=3600" in given
    assert set(servers_of(front, url, 12, headers={"cookie": f"sticky={value}"})) == {first.json()["port"]}
    found = {front.get(url, headers={"cookie": f"sticky={key}"}).json()["port"] for key in range(_KEYS)}
    assert len(found) == 3
    other = front.get(case["cookie"].url(level, ruled=False))
    assert "set-cookie" not in other.headers
    session = front.get(case["session"].url(level)).headers["set-cookie"]
    assert "Max-Age" not in session


@at_every_level("loadBalancer.consistentHash.useSourceIp")
def test_by_address(front: Caller, case: dict[str, Case], level: Level) -> None:
    def server(address: str, url: str) -> int:
        proxy = urlsplit(front.env["http_proxy"])
        assert proxy.port is not None
        credential = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
        connection = HTTPConnection("127.0.0.1", proxy.port, timeout=20, source_address=(address, 0))
        with closing(connection):
            connection.request("GET", url, headers={"proxy-authorization": f"Basic {credential}"})
            return int(json.loads(connection.getresponse().read())["port"])

    url, other = case["source"].url(level), case["source"].url(level, ruled=False)
    assert len({server("127.0.0.7", url) for _ in range(12)}) == 1
    assert len({server(f"127.0.0.{number}", url) for number in range(2, 2 + _KEYS)}) == 3
    assert len({server("127.0.0.7", other) for _ in range(25)}) > 1


@at_every_level("loadBalancer.consistentHash.maglev.tableSize")
def test_table(front: Caller, case: dict[str, Case], level: Level) -> None:
    """A table of two places knows two of three servers."""
    assert spreads(front, case["table"].url(level), 2)
    assert sticks(front, case["table"].url(level), headers={"x-user": "alice"})
    assert spreads(front, case["whole-table"].url(level), 3)


@at_every_level("loadBalancer.consistentHash.ringHash.minimumRingSize", "loadBalancer.consistentHash.minimumRingSize")
def test_ring(up: Up, front: Caller, case: dict[str, Case], level: Level) -> None:
    """How large Envoy made the ring: three times 683 places are the first at or above 2,048."""
    for name in ("ring", "old-ring"):
        assert sticks(front, case[name].url(level), headers={"x-user": "alice"})
        assert ring_sizes(up)[case[name].cluster(level)] >= 2048
    assert 1024 <= ring_sizes(up)[case["header"].cluster(level)] < 2048


def ring_sizes(up: Up) -> dict[str, int]:
    """Of the rings in the configuration that Envoy has in force, by cluster."""
    transport = httpx.HTTPTransport(uds=up.workload("front")["admin_socket"], verify=False)
    with httpx.Client(transport=transport, base_url="http://admin", timeout=20) as admin:
        dump = admin.get("/config_dump?resource=dynamic_active_clusters").json()["configs"]
    clusters = (one["cluster"] for one in dump)
    return {
        one["name"]: int(one["ring_hash_lb_config"]["minimum_ring_size"])
        for one in clusters
        if "ring_hash_lb_config" in one
    }
