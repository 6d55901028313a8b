"""gRPC, WebSocket and HTTP/2 without TLS, through gateways and sidecars."""

from __future__ import annotations

import queue
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.grpc_echo import GrpcEcho, Stub, trailer
from tests.real.log import logged
from tests.real.traffic import Caller, Manifest, caller, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.tunnel import connect
from tests.real.up import Up
from tests.real.websocket import Refused, Server, WebSocket

pytestmark = pytest.mark.real

HOST = "api.example.com"
ECHO = "echo.shop.svc.cluster.local"
LIVE = "live.shop.svc.cluster.local"
FRONT = "spiffe://cluster.local/ns/shop/sa/front"
WAYS = ("gateway", "gateway over TLS", "proxy", "upstream")


@dataclass(frozen=True)
class Behind:
    echo: GrpcEcho
    live: Server
    web: Backend


def manifests(behind: Behind, folder: Path) -> Iterator[Manifest]:
    yield manifest("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}}, "istio-system")
    for name, port_name, port in (
        ("echo", "grpc", behind.echo.port),
        ("live", "http", behind.live.port),
        ("web", "http", behind.web.port),
    ):
        yield service(name, ports=[{"name": port_name, "port": 8080}])
        yield workload(name, port, {"app": name}, ports={port_name: port}, serviceAccount=name)
    yield gateway(
        "edge",
        server(80, HOST, protocol="GRPC"),
        server(81, HOST, protocol="HTTP2"),
        server(443, HOST, protocol="HTTPS", tls={"mode": "SIMPLE", "credentialName": "none"}),
    )
    yield routes(
        "api",
        [HOST],
        {
            "match": [{"uri": {"prefix": "/shop.Echo/"}, "headers": {"x-hurry": {"exact": "yes"}}}],
            "timeout": "1s",
            "route": [to("echo")],
        },
        {"match": [{"uri": {"prefix": "/shop.Echo/"}}], "route": [to("echo")]},
        {"match": [{"uri": {"prefix": "/hurried"}}], "timeout": "1s", "route": [to("live")]},
        {"match": [{"uri": {"prefix": "/live"}}], "route": [to("live")]},
        {"route": [to("web")]},
        gateways=["edge"],
    )
    closed = {"to": [{"operation": {"paths": ["/live/closed", "/shop.Echo/Closed"]}}]}
    yield manifest("AuthorizationPolicy", "closed", {"action": "DENY", "rules": [closed]})
    upstreams = [{"host": name, "port": 8080} for name in ("echo", "live", "web")]
    yield caller("front", folder, serviceAccount="front", upstreams=upstreams)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("upgrades")


@pytest.fixture(scope="module")
def behind() -> Iterator[Behind]:
    with ExitStack() as running:
        yield Behind(*(running.enter_context(each) for each in (GrpcEcho(), Server(), Backend("web"))))


@pytest.fixture(scope="module")
def up(folder: Path, behind: Behind) -> Iterator[Up]:
    with Up(folder, {"all.yaml": dump(*manifests(behind, folder))}) as up:
        yield up


@pytest.fixture(scope="module")
def front(up: Up, folder: Path) -> Caller:
    return Caller("front", folder)


def channel(way: str, up: Up, front: Caller) -> grpc.Channel:
    if way == "gateway":
        options = [("grpc.default_authority", HOST), ("grpc.enable_http_proxy", 0)]
        return grpc.insecure_channel("{}:{}".format(*up.gateway(80)), options)
    if way == "gateway over TLS":
        trust = grpc.ssl_channel_credentials(Path(up.ready["ca_bundle"]).read_bytes())
        options = [("grpc.ssl_target_name_override", HOST), ("grpc.enable_http_proxy", 0)]
        return grpc.secure_channel("{}:{}".format(*up.gateway(443)), trust, options)
    if way == "proxy":
        return grpc.insecure_channel(f"{ECHO}:8080", [("grpc.http_proxy", front.env["http_proxy"])])
    return grpc.insecure_channel(upstream(front, ECHO), [("grpc.enable_http_proxy", 0)])


def upstream(front: Caller, host: str) -> str:
    return front.env[f"UPSTREAM_{host.replace('.', '_').upper()}_8080"]


@pytest.fixture(params=WAYS)
def stub(request: pytest.FixtureRequest, up: Up, front: Caller) -> Iterator[tuple[str, Stub]]:
    with channel(request.param, up, front) as open_:
        yield request.param, Stub(open_)


@enforces("Gateway.spec.servers[].port.protocol")
def test_unary(stub: tuple[str, Stub]) -> None:
    """With its trailers, the caller's identity, and statuses as the service gave them."""
    way, echo = stub
    answer, call = echo.say.with_call(b"hello", timeout=20)
    said, _, xfcc = answer.decode().partition("|")
    assert (said, trailer(call)) == ("hello", "said")
    identity = "spiffe://cluster.local/ns/shop/sa/edge" if way.startswith("gateway") else FRONT
    assert xfcc.endswith(f"URI={identity}")
    assert xfcc.rpartition("By=")[2].startswith("spiffe://cluster.local/ns/shop/sa/echo;")
    with pytest.raises(grpc.RpcError) as failed:
        echo.say(b"fail", timeout=20)
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "as asked")


def test_a_deadline_is_kept(stub: tuple[str, Stub]) -> None:
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as failed:
        stub[1].say(b"sleep 10", timeout=0.5)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 9


def test_streams(stub: tuple[str, Stub]) -> None:
    """From the server, longer than a second; and both ways, each message answered before the next is sent."""
    _, echo = stub
    call = echo.count(b"4 0.5", timeout=30)
    assert [message.decode() for message in call] == ["0", "1", "2", "3"]
    assert trailer(call) == "counted"
    outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    answers = echo.chat(iter(outgoing.get, None), timeout=30)
    for message in (b"one", b"two", b"three"):
        outgoing.put(message)
        assert next(answers) == b"echo " + message
    outgoing.put(None)
    assert list(answers) == []


def test_policies_hold_for_grpc(up: Up, front: Caller) -> None:
    for way in WAYS:
        with channel(way, up, front) as open_, pytest.raises(grpc.RpcError) as refused:
            open_.unary_unary("/shop.Echo/Closed")(b"", timeout=20)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_the_timeout_of_a_route_holds_for_streams_too(up: Up, front: Caller) -> None:
    hurry = (("x-hurry", "yes"),)
    with channel("gateway", up, front) as open_:
        echo = Stub(open_)
        assert echo.say(b"quick", timeout=20, metadata=hurry).startswith(b"quick|")
        for call in (
            lambda: echo.say(b"sleep 8", timeout=20, metadata=hurry),
            lambda: list(echo.count(b"9 0.9", timeout=20, metadata=hurry)),
        ):
            started = time.monotonic()
            with pytest.raises(grpc.RpcError) as late:
                call()
            # Of a stream that has begun, the end is a reset.
            assert late.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
            assert time.monotonic() - started < 7
    assert logged(up, "gateway~shop~edge", response_flags="UT")


def open_websocket(way: str, up: Up, front: Caller, path: str) -> WebSocket:
    if way == "gateway":
        return WebSocket(socket.create_connection(up.gateway(80), 20), HOST, path)
    if way == "gateway over TLS":
        there = socket.create_connection(up.gateway(443), 20)
        return WebSocket(up.trust().wrap_socket(there, server_hostname=HOST), HOST, path)
    if way == "proxy":
        return WebSocket(connect(front.env["http_proxy"], f"{LIVE}:8080"), f"{LIVE}:8080", path)
    host, _, port = upstream(front, LIVE).rpartition(":")
    return WebSocket(socket.create_connection((host, int(port)), 20), LIVE, path)


@pytest.mark.parametrize("way", WAYS)
def test_websocket(way: str, up: Up, front: Caller, behind: Behind) -> None:
    live = open_websocket(way, up, front, "/live/feed")
    assert [live.ask(text) for text in ("one", "two")] == ["one", "two"]
    xfcc = behind.live.seen[-1]["x-forwarded-client-cert"]
    identity = "spiffe://cluster.local/ns/shop/sa/edge" if way.startswith("gateway") else FRONT
    assert xfcc.endswith(f"URI={identity}")
    with pytest.raises(Refused) as refused:
        open_websocket(way, up, front, "/live/closed")
    assert refused.value.status == 403, "an upgrade is a request: it meets the callee's policies"


def test_websocket_outlives_the_timeout_of_its_route(up: Up, front: Caller) -> None:
    """The timeout is for the answer, which is the 101."""
    live = open_websocket("gateway", up, front, "/hurried")
    time.sleep(2)
    assert live.ask("still here") == "still here"


@pytest.mark.parametrize("port", [80, 81])
def test_http2_without_tls_at_the_gateway(up: Up, port: int) -> None:
    assert spoken("{}:{}".format(*up.gateway(port)), HOST) == ("2", "200")


def test_http2_without_tls_at_a_sidecar(up: Up, front: Caller) -> None:
    assert spoken(upstream(front, "web.shop.svc.cluster.local"), "web") == ("2", "200")
    assert spoken(upstream(front, LIVE), LIVE) == ("2", "426")


def spoken(address: str, host: str) -> tuple[str, ...]:
    """Version and status, as curl with prior knowledge of HTTP/2 sees them."""
    argv = ["curl", "-sS", "--max-time", "20", "--http2-prior-knowledge", "-o", "/dev/null", "-H", f"Host: {host}"]
    argv += ["-w", "%{http_version} %{response_code}", f"http://{address}/"]
    done = subprocess.run(argv, env={}, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(done.stdout.split())
