"""connectionPool: breakers that open, and connections that end, at every level of a DestinationRule."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from glob import glob
from pathlib import Path

import httpx
import pytest

from tests.real.destination import (
    FRONT,
    OTHER_PORT,
    RULED_PORT,
    SUBSET,
    Case,
    Gate,
    Level,
    Request,
    Server,
    Together,
    at_every_level,
    clusters,
    is_overflow,
    logged,
    marked,
)
from tests.real.fields import enforces
from tests.real.h2_server import H2Server
from tests.real.traffic import Caller, Manifest, caller, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

_RETRIES = {"retries": {"attempts": 1, "retryOn": "5xx"}}


class Failing(Gate):
    """Fails each path once; then it is good, when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self._attempts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, saw: Request) -> int:
        with self._lock:
            self._attempts[saw.path] += 1
            if self._attempts[saw.path] == 1:
                return 500
        return super().__call__(saw)


class Servers:
    """The programs behind the cases: each case has one of its own where it counts connections."""

    def __init__(self, stack: ExitStack) -> None:
        self.failing = Failing()
        self.gate = Gate()
        self.held = stack.enter_context(Server(self.gate))
        self.flaky = stack.enter_context(Server(self.failing))
        self.plain = stack.enter_context(Server())
        self.either = stack.enter_context(Server())
        self.h2 = stack.enter_context(H2Server())
        self.full = full(stack)


def full(stack: ExitStack) -> int:
    """The port of a listener whose queue is full, and nobody takes from it: Linux then drops what comes."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    listener.listen(0)
    for _ in range(3):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
    port: int = listener.getsockname()[1]
    return port


def cases(servers: Servers) -> dict[str, Case]:
    def tcp(name: str, server: Server, **settings: object) -> Case:
        return Case(name, {"connectionPool": {"tcp": settings}}, (server.endpoint,))

    def http(name: str, server: Server, tcp: Manifest | None = None, **settings: object) -> Case:
        return Case(name, {"connectionPool": {"http": settings, **({"tcp": tcp} if tcp else {})}}, (server.endpoint,))

    h2 = ({"port": servers.h2.port},)
    upgrade = {"h2UpgradePolicy": "UPGRADE"}
    found = [
        tcp("connections", servers.held, maxConnections=2),
        http("pending", servers.held, {"maxConnections": 1}, http1MaxPendingRequests=1),
        http("requests", servers.held, http2MaxRequests=2),
        Case("retries", {"connectionPool": {"http": {"maxRetries": 1}}}, (servers.flaky.endpoint,), route=_RETRIES),
        http("per-connection", servers.plain, maxRequestsPerConnection=1),
        http("idle", servers.plain, idleTimeout="500ms"),
        tcp("tcp-idle", servers.plain, idleTimeout="500ms"),
        tcp("duration", servers.plain, maxConnectionDuration="500ms"),
        tcp("keepalive", servers.plain, tcpKeepalive={"probes": 7, "time": "123s", "interval": "45s"}),
        http("upgrade", servers.plain, **upgrade),
        http("as-client", servers.either, useClientProtocol=True),
        Case("upgraded", {"connectionPool": {"http": upgrade}}, h2, levels=(Level.SERVICE,)),
        Case("streams", {"connectionPool": {"http": {"maxConcurrentStreams": 1}}}, h2, protocol="HTTP2"),
        Case(
            "timeout",
            {"connectionPool": {"tcp": {"connectTimeout": "200ms"}}},
            ({"port": servers.full},),
            route={"timeout": "2s", "retries": {"attempts": 0}},
        ),
    ]
    return {case.name: case for case in found}


def meshed(server: Server) -> Iterator[Manifest]:
    """A workload with a proxy of its own, as two services."""
    yield workload("meshed", server.port, {"app": "meshed"})
    for name, policy in (("upgraded", "DEFAULT"), ("as-it-was", "DO_NOT_UPGRADE")):
        yield service(name, selector={"app": "meshed"})
        pool = {"connectionPool": {"http": {"h2UpgradePolicy": policy}}}
        yield manifest("DestinationRule", name, {"host": name, "trafficPolicy": pool})


def edge(case: Case) -> Iterator[Manifest]:
    """The services of ``case`` at a gateway: its clients speak HTTP/2 if they want to."""
    yield gateway("edge", server(80, "*.example.com"))
    for level in Level:
        host = case.host_at(level)
        others = {Level.SERVICE: to(case.host_at(Level.PORT), OTHER_PORT), Level.SUBSET: to(host, RULED_PORT)}
        ruled = {"match": [{"uri": {"prefix": "/ruled"}}], "route": [to(host, 80, SUBSET if level.is_subset else None)]}
        other = {"route": [others.get(level, to(host, OTHER_PORT))]}
        yield routes(f"edge-{level.name.lower().replace('_', '-')}", [host], ruled, other, gateways=["edge"])


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
def up(case: dict[str, Case], servers: Servers, stack: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Up:
    folder = tmp_path_factory.mktemp("pools")
    written = [manifest for one in case.values() for manifest in one.manifests()]
    there = [caller("front", folder), *written, *meshed(servers.plain), *edge(case["as-client"])]
    return stack.enter_context(Up(folder, {"all.yaml": dump(*there)}))


@pytest.fixture(scope="module")
def front(up: Up) -> Caller:
    return Caller("front", up.folder)


@at_every_level("connectionPool.tcp.maxConnections")
def test_connections(front: Caller, case: dict[str, Case], servers: Servers, level: Level) -> None:
    """More requests than connections wait for one; without a limit, each has its own."""
    for ruled, expected in ((True, 2), (False, 6)):
        servers.held.busiest = 0
        servers.gate.close()
        with Together(front, *[case["connections"].url(level, ruled=ruled)] * 6) as asked:
            eventually(lambda expected=expected: servers.held.busy == expected, 60)
            servers.gate.open()
        assert asked.statuses == [200] * 6
        assert servers.held.busiest == expected


@at_every_level("connectionPool.http.http1MaxPendingRequests")
def test_pending_requests(up: Up, front: Caller, case: dict[str, Case], servers: Servers, level: Level) -> None:
    """One is answered, one waits, the others are told at once that there is no place."""
    url, mark = marked(case["pending"].url(level))
    servers.gate.close()
    with Together(front, url) as first:
        # Who waits for a connection to open waits, too: the first has it before the others come.
        eventually(lambda: servers.held.busy == 1, 60)
        with Together(front, *[url] * 5) as asked:
            asked.answered(4)
            servers.gate.open()
    assert (first.statuses, asked.statuses) == ([200], [200, 503, 503, 503, 503])
    assert sum(map(is_overflow, asked.answers)) == 4
    lines = eventually(lambda: found if len(found := with_mark(up, mark)) == 6 else None, 60)
    assert Counter(line["response_flags"] for line in lines) == {"UO": 4, "-": 2}
    assert unruled(front, case["pending"], servers, level) == [200] * 6


def with_mark(up: Up, mark: str) -> list[dict[str, object]]:
    return [line for line in up.access_log(FRONT) if mark in str(line.get("path"))]


def unruled(front: Caller, case: Case, servers: Servers, level: Level) -> list[int]:
    """Six requests that all are under way before the first is answered."""
    servers.gate.close()
    with Together(front, *[case.url(level, ruled=False)] * 6) as asked:
        eventually(lambda: servers.held.busy == 6, 60)
        servers.gate.open()
    return asked.statuses


@at_every_level("connectionPool.http.http2MaxRequests")
def test_requests(front: Caller, case: dict[str, Case], servers: Servers, level: Level) -> None:
    servers.gate.close()
    with Together(front, *[case["requests"].url(level)] * 6) as asked:
        asked.answered(4)
        servers.gate.open()
    assert asked.statuses == [200, 200, 503, 503, 503, 503]
    assert sum(map(is_overflow, asked.answers)) == 4
    assert unruled(front, case["requests"], servers, level) == [200] * 6


@at_every_level("connectionPool.http.maxRetries")
def test_retries(front: Caller, case: dict[str, Case], servers: Servers, level: Level) -> None:
    """While one request is tried again, no other is: it keeps the answer of its first try."""
    servers.failing.close()
    with Together(front, *(marked(case["retries"].url(level))[0] for _ in range(6))) as asked:
        asked.answered(5)
        servers.failing.open()
    assert asked.statuses == [200, 500, 500, 500, 500, 500]
    servers.failing.close()
    with Together(front, *(marked(case["retries"].url(level, ruled=False))[0] for _ in range(6))) as asked:
        eventually(lambda: servers.flaky.busy == 6, 60)
        servers.failing.open()
    assert asked.statuses == [200] * 6


@enforces("DestinationRule.spec.subsets[].trafficPolicy.portLevelSettings[].port.number")
@at_every_level("connectionPool.http.maxRequestsPerConnection")
def test_requests_per_connection(front: Caller, case: dict[str, Case], servers: Servers, level: Level) -> None:
    def connections(*, ruled: bool) -> int:
        return len({front.get(case["per-connection"].url(level, ruled=ruled)).json()["connection"] for _ in range(4)})

    assert connections(ruled=True) == 4
    assert connections(ruled=False) == 1


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("idle", id="http"),
        pytest.param("tcp-idle", id="tcp"),
    ],
)
@at_every_level("connectionPool.http.idleTimeout", "connectionPool.tcp.idleTimeout")
def test_idle_connections_end(front: Caller, case: dict[str, Case], servers: Servers, level: Level, name: str) -> None:
    """That of HTTP ends a connection that nobody uses; TCP's stands in where HTTP's is not given."""
    other = front.get(case[name].url(level, ruled=False)).json()["connection"]
    ruled = front.get(case[name].url(level)).json()["connection"]
    eventually(lambda: ruled in servers.plain.ended, 60)
    assert servers.plain.ended[ruled] - servers.plain.last[ruled] >= 0.45
    assert other not in servers.plain.ended


@at_every_level("connectionPool.tcp.maxConnectionDuration")
def test_old_connections_end(front: Caller, case: dict[str, Case], servers: Servers, level: Level) -> None:
    """A busy one, too: requests go on on another."""
    url, other = case["duration"].url(level), case["duration"].url(level, ruled=False)
    began = time.monotonic()
    first, kept = front.get(url).json()["connection"], front.get(other).json()["connection"]
    eventually(lambda: front.get(url).json()["connection"] != first, 60)
    assert time.monotonic() - began >= 0.45
    assert front.get(other).json()["connection"] == kept


@at_every_level(
    "connectionPool.tcp.tcpKeepalive.probes",
    "connectionPool.tcp.tcpKeepalive.time",
    "connectionPool.tcp.tcpKeepalive.interval",
)
def test_keepalive(up: Up, front: Caller, case: dict[str, Case], servers: Servers, level: Level) -> None:
    """What Envoy asked of the system for its socket, asked of the system."""

    def options(*, ruled: bool) -> tuple[int, ...]:
        answer = front.get(case["keepalive"].url(level, ruled=ruled)).json()
        saw = next(one for one in reversed(servers.plain.seen) if one.connection == answer["connection"])
        return keepalive_of(saw.peer, servers.plain.port)

    assert options(ruled=True) == (1, 7, 123, 45)
    assert options(ruled=False)[0] == 0


_PIDFD_OPEN, _PIDFD_GETFD = 434, 438


def keepalive_of(port: int, to: int) -> tuple[int, ...]:
    """SO_KEEPALIVE, TCP_KEEPCNT, TCP_KEEPIDLE and TCP_KEEPINTVL of another process's socket."""
    pid, number = owner_of(port, to)
    libc = __import__("ctypes").CDLL(None, use_errno=True)
    process = libc.syscall(_PIDFD_OPEN, pid, 0)
    descriptor = libc.syscall(_PIDFD_GETFD, process, number, 0)
    if descriptor < 0:
        pytest.skip("sockets of other processes cannot be looked at here")
    with socket.socket(fileno=descriptor) as looked_at:
        os.close(process)
        wanted = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), *((socket.IPPROTO_TCP, one) for one in _KEEPALIVE))
        return tuple(looked_at.getsockopt(*one) for one in wanted)


_KEEPALIVE = (socket.TCP_KEEPCNT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)


def owner_of(port: int, to: int) -> tuple[int, int]:
    """The process and descriptor of the client's end of a connection from ``port`` of this machine ``to`` another.

    A port may have connections to several places, of several processes.
    """
    here, there = (f"{struct.unpack('=I', socket.inet_aton('127.0.0.1'))[0]:08X}:{one:04X}" for one in (port, to))
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    inode = next(line[9] for line in lines if line[1:3] == [here, there] and line[9] != "0")
    # Not Path.glob: processes end while they are looked at.
    for link in map(Path, glob("/proc/[0-9]*/fd/*")):
        try:
            if link.readlink().name == f"socket:[{inode}]":
                return int(link.parts[2]), int(link.name)
        except OSError:
            continue
    raise AssertionError(f"nobody has port {port}")


@at_every_level("connectionPool.http.h2UpgradePolicy")
def test_upgrade(front: Caller, case: dict[str, Case], servers: Servers, level: Level) -> None:
    """HTTP/2 is spoken to a program that was not asked: this one cannot."""
    assert front.status(case["upgrade"].url(level)) in (502, 503)
    assert servers.plain.prefaces[-1].startswith(b"PRI * HTTP/2.0")
    assert front.status(case["upgrade"].url(level, ruled=False)) == 200


def test_who_can_is_upgraded(front: Caller, case: dict[str, Case]) -> None:
    assert front.status(case["upgraded"].url(Level.SERVICE)) == 200


def test_between_proxies_http2_can_be_left(up: Up, front: Caller) -> None:
    """By default two proxies speak HTTP/2 with each other, whatever the programs do."""

    def spoken(name: str) -> str:
        url, mark = marked(f"http://{name}.shop.svc.cluster.local")
        assert front.status(url) == 200
        return str(logged(up, mark, "sidecar~shop~meshed")["protocol"])

    assert (spoken("upgraded"), spoken("as-it-was")) == ("HTTP/2", "HTTP/1.1")


@at_every_level("connectionPool.http.useClientProtocol")
def test_as_the_client_does(up: Up, case: dict[str, Case], servers: Servers, level: Level) -> None:
    """The program understands HTTP/1.1 alone; it hears HTTP/2 if, and only if, the client speaks it."""
    address, port = up.gateway(80)
    host = case["as-client"].host_at(level)

    def ask(path: str, *options: str) -> tuple[str, bytes]:
        url = f"http://{host}:{port}/{path}"
        argv = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--resolve", f"{host}:{port}:{address}")
        status = subprocess.run((*argv, *options, url), capture_output=True, text=True, check=False).stdout
        return status, servers.either.prefaces[-1].split()[0]

    assert ask("ruled") == ("200", b"GET")
    status, first = ask("ruled", "--http2-prior-knowledge")
    assert (status in ("502", "503"), first) == (True, b"PRI")
    status, _ = ask("other", "--http2-prior-knowledge")
    assert status == "200"


@at_every_level("connectionPool.http.maxConcurrentStreams")
def test_streams(front: Caller, case: dict[str, Case], servers: Servers, level: Level) -> None:
    """Four requests at one time on four connections; without the limit they share one."""
    for ruled, expected in ((True, 4), (False, 1)):
        with (
            servers.h2.holding(4) as held,
            Together(front, *[case["streams"].url(level, ruled=ruled)] * 4) as asked,
        ):
            asked.answered(4)
        assert asked.statuses == [200] * 4
        assert len(held.connections) == expected


@at_every_level("connectionPool.tcp.connectTimeout")
def test_connect_timeout(up: Up, front: Caller, case: dict[str, Case], level: Level) -> None:
    """Before the route's own timeout; the default, 10 s, is after it."""
    url, mark = marked(case["timeout"].url(level))
    assert front.status(url) == 503
    assert logged(up, mark)["response_flags"] == "UF"
    assert front.status(case["timeout"].url(level, ruled=False)) == 504


def test_what_is_left_can_be_watched(up: Up, case: dict[str, Case]) -> None:
    found = clusters(up)[case["connections"].cluster(Level.SERVICE)]
    assert found["default_priority"]["max_connections"] == "2"


def test_a_client_without_the_mesh_is_not_limited(case: dict[str, Case], servers: Servers) -> None:
    """The limits are the proxy's: the program itself takes whoever comes."""
    answers = [
        httpx.get(f"http://127.0.0.1:{servers.plain.port}/", trust_env=False, verify=False, timeout=30)
        for _ in range(3)
    ]
    assert {one.status_code for one in answers} == {200}
