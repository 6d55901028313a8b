"""What a DestinationRule says of plain connections: how long they last, whom they come to, and TLS on the way."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.real.destination import RULED_PORT, Case, Level, Server
from tests.real.traffic import Caller, caller, dump
from tests.real.traffic_credentials import Authority, serving
from tests.real.up import Up

pytestmark = pytest.mark.real

_QUIET = 3.0
_REQUEST = b"GET / HTTP/1.1\r\nhost: there\r\n\r\n"


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tcp")


@pytest.fixture(scope="module")
def secured(stack: ExitStack, folder: Path) -> Server:
    authority = Authority("tcp")
    (folder / "roots.pem").write_bytes(authority.pem)
    return stack.enter_context(Server(tls=serving(folder, authority.certify("secured.example.com"))))


@pytest.fixture(scope="module")
def up(stack: ExitStack, folder: Path, secured: Server) -> Up:
    servers = [stack.enter_context(Server()) for _ in range(3)]
    all_three = tuple(one.endpoint for one in servers)

    def case(name: str, policy: dict[str, object], *endpoints: dict[str, object]) -> Case:
        host = f"{name}.example.com"
        return Case(name, policy, endpoints or all_three, protocol="TCP", levels=(Level.SERVICE,), host=host)

    def tls(name: str) -> dict[str, object]:
        return {"tls": {"mode": "SIMPLE", "caCertificates": str(folder / "roots.pem"), "sni": name}}

    cases = (
        case("plain", {}),
        case("idle", {"connectionPool": {"tcp": {"idleTimeout": "500ms"}}}),
        case("short", {"connectionPool": {"tcp": {"maxConnectionDuration": "500ms"}}}),
        case("sticky", {"loadBalancer": {"consistentHash": {"useSourceIp": True}}}),
        case("secured", tls("secured.example.com"), secured.endpoint),
        case("misnamed", tls("other.example.com"), secured.endpoint),
    )
    upstreams = [{"host": one.host, "port": RULED_PORT} for one in cases]
    written = (manifest for one in cases for manifest in one.manifests())
    front = caller("front", folder, upstreams=upstreams)
    return stack.enter_context(Up(folder, {"all.yaml": dump(front, *written)}))


@pytest.fixture(scope="module")
def front(up: Up, folder: Path) -> Caller:
    return Caller("front", folder)


def connect(front: Caller, name: str, source: str = "127.0.0.1") -> socket.socket:
    address, _, port = front.env[f"UPSTREAM_{name.upper()}_EXAMPLE_COM_{RULED_PORT}"].rpartition(":")
    return socket.create_connection((address, int(port)), 20, (source, 0))


def ask(connection: socket.socket) -> int:
    """Which of the servers answers; 0: the connection was closed."""
    try:
        connection.sendall(_REQUEST)
        head = connection.recv(4096)
    except ConnectionError:
        return 0
    return int(json.loads(head.partition(b"\r\n\r\n")[2])["port"]) if head else 0


def closes_within(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_idle_connections_are_closed(front: Caller) -> None:
    with connect(front, "idle") as idle, connect(front, "plain") as plain:
        assert ask(idle)
        assert ask(plain)
        assert closes_within(idle, 30)
        assert not closes_within(plain, _QUIET)


def test_busy_ones_are_closed_when_they_are_old(front: Caller) -> None:
    began = time.monotonic()
    with connect(front, "short") as short, connect(front, "plain") as plain:
        while ask(short):
            assert time.monotonic() < began + 60
        assert time.monotonic() - began >= 0.45
        assert ask(plain)


def test_by_address(front: Caller) -> None:
    def server(name: str, source: str) -> int:
        with connect(front, name, source) as connection:
            return ask(connection)

    assert len({server("sticky", "127.0.0.7") for _ in range(12)}) == 1
    assert len({server("sticky", f"127.0.0.{number}") for number in range(2, 82)}) == 3
    assert len({server("plain", "127.0.0.7") for _ in range(40)}) > 1


def test_tls_begins_on_the_way(front: Caller, secured: Server) -> None:
    with connect(front, "secured") as connection:
        assert ask(connection) == secured.port
    assert secured.seen[-1].server_name == "secured.example.com"
    with connect(front, "misnamed") as connection:
        assert ask(connection) == 0
