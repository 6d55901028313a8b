"""TLS sessions that are taken up again: where nobody is asked for a certificate, and there alone."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from isthmus.envoy_api import any_of, to_json
from isthmus.envoy_api.packages import (
    bootstrap_v3,
    core_v3,
    http_connection_manager_v3,
    listener_v3,
    route_v3,
    router_v3,
    tls_v3,
)
from isthmus.latest import Latest
from isthmus.model.federation import TrustDomains
from isthmus.model.gateway import ServerTls, ServerTlsMode
from isthmus.proxy.envoy import find_envoy
from isthmus.proxy.sds import SdsServer
from isthmus.proxy.sds_stream import Secrets, ServedSecret
from isthmus.proxy.ticket_keys import TURN, TicketKeys
from isthmus.xds.bootstrap import build_agent_cluster
from isthmus.xds.secret import SESSION_TICKET_KEYS, credential_name
from isthmus.xds.tls import gateway_server
from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.pki import Authority, Leaf
from tests.real.traffic import Manifest, dump, gateway, routes, server, service, to, workload
from tests.real.traffic_credentials import secret
from tests.real.up import Up, eventually, free_port

pytestmark = pytest.mark.real

SESSION = "ClientTrafficPolicy.spec.tls.session.resumption."
V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
SESSIONS: dict[str, Manifest | None] = {
    "usual": None,
    "tickets": {"stateless": {}},
    "memory": {"stateful": {}},
    "never": {},
    "mutual": {"stateless": {}, "stateful": {}},
    "optional": None,
}
MODES = {"mutual": "MUTUAL", "optional": "OPTIONAL_MUTUAL"}


def host(name: str) -> str:
    return f"{name}.example.com"


def policy(name: str, resumption: Manifest) -> Manifest:
    target = {"kind": "Gateway", "name": "edge", "sectionName": name}
    spec = {"targetRefs": [target], "tls": {"session": {"resumption": resumption}}}
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "isthmus.dev/v1alpha1", "kind": "ClientTrafficPolicy", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("everybody")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Up]:
    leaf = authority.issue("*.example.com")
    data = {"tls.crt": leaf.chain, "tls.key": leaf.key, "ca.crt": authority.pem}
    servers = (
        server(
            443,
            host(name),
            protocol="HTTPS",
            name=name,
            tls={"mode": MODES.get(name, "SIMPLE"), "credentialName": "all"},
        )
        for name in SESSIONS
    )
    with Backend() as backend:
        documents = dump(
            gateway("edge", *servers),
            secret("all", type="kubernetes.io/tls", data=data),
            *(policy(name, wanted) for name, wanted in SESSIONS.items() if wanted is not None),
            routes("all", ["*.example.com"], {"route": [to("web")]}, gateways=["edge"]),
            service("web"),
            workload("web", backend.port, {"app": "web"}),
        )
        with Up(tmp_path_factory.mktemp("resumption"), {"all.yaml": documents}) as running:
            yield running


class Client:
    """A TLS client that keeps its last session. ``tickets``: whether it takes any."""

    def __init__(self, authority: Authority, version: ssl.TLSVersion, own: Path | None, *, tickets: bool) -> None:
        self._context = ssl.create_default_context(cadata=authority.pem.decode())
        self._context.minimum_version = self._context.maximum_version = version
        if own is not None:
            self._context.load_cert_chain(own)
        if not tickets:
            self._context.options |= ssl.OP_NO_TICKET
        self._session: ssl.SSLSession | None = None

    def resumes(self, address: tuple[str, int], name: str, *, keep: bool = True) -> bool:
        """Whether a request went by the session of the one before. ``keep``: remember this one's."""
        with (
            socket.create_connection(address, 20) as raw,
            self._context.wrap_socket(raw, server_hostname=name, session=self._session) as secured,
        ):
            secured.sendall(f"GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n".encode())
            assert secured.recv(65536).startswith(b"HTTP/1.1 200")
            if keep:
                # In TLS 1.3 it comes with the answer.
                self._session = secured.session
            return bool(secured.session_reused)


@pytest.fixture(scope="module")
def own(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    leaf = authority.issue("spiffe://partners.example/alice")
    return leaf.written(tmp_path_factory.mktemp("own"), "own")


@enforces(SESSION + "stateless", SESSION + "stateful")
@pytest.mark.parametrize(
    ("name", "by_ticket", "by_memory"),
    [
        ("usual", True, True),
        ("tickets", True, False),
        ("memory", False, True),
        ("never", False, False),
        ("mutual", False, False),
        ("optional", False, False),
    ],
)
def test_sessions(up: Up, authority: Authority, own: Path, name: str, by_ticket: bool, by_memory: bool) -> None:
    """TLS 1.3 has tickets alone: what is remembered has them, too, for a name."""
    address = up.gateway(443)
    for version, tickets, expected in ((V1_2, True, by_ticket), (V1_3, True, by_ticket), (V1_2, False, by_memory)):
        if (version, name) == (V1_2, "memory") and tickets:
            continue
        client = Client(authority, version, own, tickets=tickets)
        assert not client.resumes(address, host(name))
        found = [client.resumes(address, host(name)) for _ in range(3)]
        assert found == [expected] * 3, (version, tickets)


def test_a_session_that_began_without_a_certificate_is_nothing_where_one_is_asked_for(
    up: Up, authority: Authority, own: Path
) -> None:
    for version in (V1_2, V1_3):
        client = Client(authority, version, own, tickets=True)
        client.resumes(up.gateway(443), host("usual"))
        assert not client.resumes(up.gateway(443), host("mutual"))


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_finds_no_session_with_mutual_tls(up: Up, authority: Authority, own: Path, version: str) -> None:
    address, port = up.gateway(443)
    roots = own.with_name("roots.pem")
    roots.write_bytes(authority.pem)
    kept = own.with_name(f"session{version}")
    argv = ["openssl", "s_client", "-connect", f"{address}:{port}", "-servername", host("mutual"), version]
    argv += ["-cert", str(own), "-key", str(own), "-CAfile", str(roots), "-ign_eof"]
    request = f"GET / HTTP/1.1\r\nhost: {host('mutual')}\r\nconnection: close\r\n\r\n"
    first = subprocess.run([*argv, "-sess_out", str(kept)], input=request, capture_output=True, text=True, timeout=30)
    assert "HTTP/1.1 200" in first.stdout, first.stderr
    again = [*argv, *(["-sess_in", str(kept)] if kept.exists() else [])]
    second = subprocess.run(again, input=request, capture_output=True, text=True, timeout=30)
    assert "HTTP/1.1 200" in second.stdout, second.stderr
    assert "\nReused, " not in second.stdout


def test_it_is_said_where_a_policy_wants_sessions_and_cannot_have_them(up: Up) -> None:
    assert up.output.count("ISM2260") == 1


def listener(port: int) -> Any:
    """A public listener with the TLS that gateways have, which answers by itself."""
    manager = http_connection_manager_v3.HttpConnectionManager(
        stat_prefix="edge",
        route_config=route_v3.RouteConfiguration(
            virtual_hosts=[
                route_v3.VirtualHost(
                    name="all",
                    domains=["*"],
                    routes=[
                        route_v3.Route(
                            match=route_v3.RouteMatch(prefix="/"),
                            direct_response=route_v3.DirectResponseAction(status=200),
                        )
                    ],
                )
            ]
        ),
        http_filters=[
            http_connection_manager_v3.HttpFilter(
                name="envoy.filters.http.router", typed_config=any_of(router_v3.Router())
            )
        ],
    )
    filters = [listener_v3.Filter(name="envoy.filters.network.http_connection_manager", typed_config=any_of(manager))]
    tls = ServerTls(ServerTlsMode.SIMPLE, ("all",))
    transport_socket = gateway_server(tls, "shop", TrustDomains(("cluster.local",), ()))
    return listener_v3.Listener(
        name="edge",
        address=core_v3.Address(socket_address=core_v3.SocketAddress(address="127.0.0.1", port_value=port)),
        filter_chains=[listener_v3.FilterChain(filters=filters, transport_socket=transport_socket)],
    )


def certificate(leaf: Leaf) -> ServedSecret:
    name = credential_name("shop", "all")
    secret_ = tls_v3.Secret(
        name=name,
        tls_certificate=tls_v3.TlsCertificate(
            certificate_chain=core_v3.DataSource(inline_bytes=leaf.chain),
            private_key=core_v3.DataSource(inline_bytes=leaf.key),
        ),
    )
    return ServedSecret(name, "1", any_of(secret_))


@asynccontextmanager
async def envoy(folder: Path, port: int, served: Latest[Secrets]) -> AsyncIterator[SdsServer]:
    """One Envoy with its secrets from an agent's server."""
    socket_path = folder / "sds.sock"
    agent = SdsServer("gateway~shop~edge", socket_path, served)
    await agent.start()
    bootstrap = bootstrap_v3.Bootstrap(
        node=core_v3.Node(id="edge", cluster="edge"),
        static_resources=bootstrap_v3.Bootstrap.StaticResources(
            clusters=[build_agent_cluster(str(socket_path))], listeners=[listener(port)]
        ),
    )
    file = folder / "envoy.json"
    file.write_text(json.dumps(to_json(bootstrap)))
    argv = (str(find_envoy()), "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "-l", "error")
    process = await asyncio.create_subprocess_exec(*argv)
    try:
        yield agent
    finally:
        process.terminate()
        await process.wait()
        await agent.stop()


async def taken(agent: SdsServer, keys: TicketKeys) -> None:
    """Wait until Envoy has confirmed ``keys``."""
    async with asyncio.timeout(20):
        while agent.lacking(SESSION_TICKET_KEYS, keys.secret(SESSION_TICKET_KEYS).version):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("version", [V1_2, V1_3])
async def test_a_ticket_is_good_until_its_key_is_gone(tmp_path: Path, authority: Authority, version: Any) -> None:
    """Before and after a turn, and two; not after three."""
    port = free_port()
    began = datetime(2026, 1, 1, tzinfo=UTC)
    keys = TicketKeys.first(began, secrets.token_bytes)
    pair = certificate(authority.issue("edge.example.com"))

    def value(now: TicketKeys) -> Secrets:
        found = {pair.name: pair, SESSION_TICKET_KEYS: now.secret(SESSION_TICKET_KEYS)}
        return Secrets(frozenset(found), found)

    served = Latest(value(keys))
    client = Client(authority, version, None, tickets=True)

    def resumes() -> bool:
        return client.resumes(("127.0.0.1", port), "edge.example.com", keep=False)

    async with envoy(tmp_path, port, served) as agent:
        await asyncio.to_thread(eventually, lambda: not client.resumes(("127.0.0.1", port), "edge.example.com"), 20)
        assert await asyncio.to_thread(resumes)
        for turn in (1, 2, 3):
            keys = keys.turned(began + turn * TURN + timedelta(seconds=turn), secrets.token_bytes)
            served.set(value(keys))
            await taken(agent, keys)
            assert await asyncio.to_thread(resumes) is (turn < 3)
