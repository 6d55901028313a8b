"""Addresses whose handshakes keep failing are shut out, twice as long each time, and let in again: on real Envoy."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from isthmus.model.metric import SHUT_OUT_CONNECTIONS
from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.handshaking import context, hello, says, shakes_hands
from tests.real.pki import Authority
from tests.real.traffic import dump, gateway, routes, server, service, to, workload
from tests.real.traffic_credentials import secret
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

FIELD = "ClientTrafficPolicy.spec.connection.failedHandshakes."
HOST = "edge.example.com"
EXEMPT, TROUBLE, WELL, SELDOM, SLOW = "127.0.2.9", "127.0.2.10", "127.0.2.11", "127.0.2.12", "127.0.2.13"
THRESHOLD = 10
_SECONDS = 60.0
_POLICY = f"""
apiVersion: isthmus.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {{name: edge, namespace: shop}}
spec:
  targetRefs: [{{kind: Gateway, name: edge}}]
  connection:
    failedHandshakes:
      {{threshold: {THRESHOLD}, interval: 2s, baseEjection: 2s, maxEjection: 4s, exempt: [127.0.2.8/31]}}
"""


@dataclass
class Edge:
    up: Up
    servers: Authority

    @property
    def place(self) -> tuple[str, int]:
        return self.up.gateway(443)

    def gets_in(self, source: str) -> bool:
        return shakes_hands(self.place, context(self.servers.pem), HOST, source)

    def fail(self, source: str, times: int) -> None:
        for _ in range(times):
            says(self.place, b"GET / HTTP/1.1\r\n\r\n", source)

    def shut_out(self, source: str, fails: Callable[[], None] | None = None) -> None:
        """Fail until the address is shut out: again, where a slow machine took longer than the interval over it."""
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            (fails or (lambda: self.fail(source, THRESHOLD + 2)))()
            try:
                eventually(lambda: not self.gets_in(source), 10.0)
            except AssertionError:
                continue
            return
        raise AssertionError(f"{source} is not shut out")

    def seconds_out(self, source: str) -> float:
        """Fail until the address is shut out; how many seconds until it is let in again."""
        self.shut_out(source)
        since = time.monotonic()
        eventually(lambda: self.gets_in(source), _SECONDS)
        return time.monotonic() - since

    def refused(self) -> int:
        http = self.up.ready["control_plane"]["http"]
        text = httpx.get(f"{http}/metrics/proxies/gateway~shop~edge", trust_env=False, verify=False, timeout=20).text
        name = f'{SHUT_OUT_CONNECTIONS.name}{{listener="gateway_443"}} '
        return next((int(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)), 0)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    servers = Authority("servers")
    own = servers.issue(HOST)
    with Backend() as backend:
        text = dump(
            secret("edge", type="kubernetes.io/tls", data={"tls.crt": own.chain, "tls.key": own.key}),
            gateway(
                "edge",
                server(443, HOST, protocol="HTTPS", tls={"mode": "SIMPLE", "credentialName": "edge"}),
                server(
                    443,
                    "*.other.example.com",
                    protocol="HTTPS",
                    name="other",
                    tls={"mode": "SIMPLE", "credentialName": "edge"},
                ),
            ),
            routes("edge", [HOST], {"route": [to("back")]}, gateways=["edge"]),
            service("back"),
            workload("back-1", backend.port, {"app": "back"}),
        )
        with Up(tmp_path_factory.mktemp("back-off"), {"all.yaml": text, "policy.yaml": _POLICY}) as up:
            edge = Edge(up, servers)
            eventually(lambda: edge.gets_in(WELL), _SECONDS)
            yield edge


@enforces(f"{FIELD}threshold", f"{FIELD}baseEjection", f"{FIELD}maxEjection")
def test_who_keeps_failing_is_shut_out_and_let_in_again(edge: Edge) -> None:
    """Others notice nothing: not on a new connection, nor on one that stands."""
    by = context(edge.servers.pem)
    plain = socket.create_connection(edge.place, _SECONDS, (WELL, 0))
    with by.wrap_socket(plain, server_hostname=HOST) as standing:
        first = edge.seconds_out(TROUBLE)
        assert edge.refused() > 0
        second, third = edge.seconds_out(TROUBLE), edge.seconds_out(TROUBLE)
        # Without maxEjection the next would be longer still; of these a machine that is slow has a second go.
        longest = third if third < 7.5 else edge.seconds_out(TROUBLE)
        standing.sendall(f"GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
        assert standing.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert edge.gets_in(WELL)
    # Seen up to a second late, at both ends; a machine under load may add to it.
    assert first > 0.5
    assert max(second, third) > 2.5, "twice as long"
    assert longest < 7.5, "no longer than maxEjection"


def test_who_begins_and_goes_away_each_time_is_shut_out_too(edge: Edge) -> None:
    """Before it goes the gateway has signed for it: that is what such a flood is for."""

    parts = 0

    def begins_and_leaves() -> None:
        """Until the gateway does not begin either: failures leak away meanwhile, the more the slower the machine is."""
        nonlocal parts
        for _ in range(4 * THRESHOLD):
            with (
                contextlib.suppress(ConnectionError),
                socket.create_connection(edge.place, _SECONDS, ("127.0.2.23", 0)) as begun,
            ):
                begun.sendall(hello(HOST))
                if begun.recv(1):
                    parts += 1
                    continue
            return

    for _ in range(3 * THRESHOLD):
        says(edge.place, b"", "127.0.2.24", leaves=True)
    edge.shut_out("127.0.2.23", begins_and_leaves)
    assert parts >= THRESHOLD - 1, "the gateway's part"
    assert edge.gets_in("127.0.2.24"), "who only looks whether the port is open is not"


@enforces(f"{FIELD}exempt")
def test_who_is_exempt_is_never_shut_out(edge: Edge) -> None:
    edge.fail(EXEMPT, 3 * THRESHOLD)
    edge.fail(SELDOM, THRESHOLD - 2)
    edge.shut_out("127.0.2.20")
    assert edge.gets_in(EXEMPT)
    assert edge.gets_in(SELDOM)


@enforces(f"{FIELD}interval")
def test_failures_are_forgotten(edge: Edge) -> None:
    for _ in range(2):
        edge.fail(SLOW, THRESHOLD - 3)
        time.sleep(2.0)
    edge.shut_out("127.0.2.21")
    assert edge.gets_in(SLOW)


def test_without_the_policy_nobody_is_shut_out(edge: Edge) -> None:
    edge.shut_out("127.0.2.22")
    edge.up.remove("policy.yaml")
    eventually(lambda: edge.gets_in("127.0.2.22"), _SECONDS)
    edge.fail("127.0.2.22", 3 * THRESHOLD)
    time.sleep(2.0)
    assert edge.gets_in("127.0.2.22")
