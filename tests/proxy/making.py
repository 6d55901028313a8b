"""A small control plane for these tests: certificates, secrets and ADS as the real one's, one listener a proxy."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
from cryptography import x509

from isthmus.ads.server import KEEPALIVE_OPTIONS, AdsServer
from isthmus.ads.status import Statuses
from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import (
    core_v3,
    discovery_v3,
    http_connection_manager_v3,
    listener_v3,
    route_v3,
    router_v3,
    tls_v3,
)
from isthmus.errors import NotEnrolled
from isthmus.identity.enrolment import JoinTokens
from isthmus.identity.server import CertificateService, ControlPlaneTls, certificate_handlers, server_credentials
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.store import load_or_create
from isthmus.identity.validate import peer_identity
from isthmus.latest import Latest
from isthmus.model.proxy import Role
from isthmus.model.world import Address
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import Plan, PlannedProxy, TrustBundle, from_json, to_json
from isthmus.proxy.sds import SERVICE
from isthmus.proxy.sds_stream import SECRET_TYPE
from isthmus.state import StateDir
from isthmus.xds.address import socket_address
from isthmus.xds.secret import SVID, sds_secret
from isthmus.xds.snapshot import Snapshot, build, snapshot

NODE = "local"
DOMAIN = "cluster.local"
CONTROL_PLANE = "spiffe://cluster.local/ns/istio-system/sa/isthmus"
ORDERS = PlannedProxy("sidecar~shop~orders", Role.SIDECAR, "orders", "shop", "spiffe://cluster.local/ns/shop/sa/orders")
USERS = PlannedProxy("sidecar~shop~users", Role.SIDECAR, "users", "shop", "spiffe://cluster.local/ns/shop/sa/users")


def clock() -> datetime:
    return datetime.now(UTC)


@contextmanager
def folders(tmp_path: Path) -> Iterator[Folders]:
    """A state, and a runtime folder whose sockets' paths are short enough."""
    state = StateDir.at(tmp_path / "state").open()
    with TemporaryDirectory(prefix="isthmus-test-", dir="/tmp") as runtime:
        yield Folders(state.path, Path(runtime))


def plan_of(
    places: Folders, ads_port: int, *proxies: PlannedProxy, version: int = 1, ttl: int = 3600, **changes: Any
) -> Plan:
    authority = load_or_create(StateDir.at(places.state), DOMAIN, clock())
    return Plan(
        version=version,
        node=NODE,
        trust_domain=DOMAIN,
        ads=Address("127.0.0.1", ads_port),
        control_plane_id=CONTROL_PLANE,
        enrol_socket=str(places.runtime / "enrol.sock"),
        svid_ttl_seconds=ttl,
        proxies=proxies,
        trust=(TrustBundle(DOMAIN, authority.bundle.roots),),
        **changes,
    )


class Assigned:
    """Everything in the namespace ``shop``, and every development name under ``example.com``."""

    def may_hold(self, node: str, spiffe_id: SpiffeId) -> bool:
        return node == NODE and spiffe_id.path.startswith("/ns/shop/")

    def longest(self, node: str, spiffe_id: SpiffeId) -> timedelta:
        return timedelta(hours=1)

    def may_serve(self, node: str, dns_names: tuple[str, ...]) -> bool:
        return node == NODE and all(name.endswith(".example.com") for name in dns_names)


class ControlPlane:
    """``ports``: by proxy id, where its one listener stands."""

    def __init__(self, places: Folders, ads_port: int, ports: Mapping[str, int]) -> None:
        self.tokens = JoinTokens()
        self.secrets: dict[str, Any] = {}
        self.fetched: list[str] = []
        self._places = places
        self._ads_port = ads_port
        self._snapshots = {proxy_id: Latest(snapshot_of(port)) for proxy_id, port in ports.items()}
        self._authority = Latest(load_or_create(StateDir.at(places.state), DOMAIN, clock()))
        self._server: Any = None

    def token(self) -> str:
        return self.tokens.issue(NODE, clock())

    async def start(self) -> None:
        service = CertificateService(self._authority, Assigned(), self.tokens, clock)
        ads = AdsServer(self, self._authorize, Statuses())
        options = [("grpc.so_reuseport", 0), *KEEPALIVE_OPTIONS]
        server = self._server = grpc.aio.server(options=options)
        fetch = grpc.unary_unary_rpc_method_handler(
            self._fetch,
            request_deserializer=discovery_v3.DiscoveryRequest.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        secrets = grpc.method_handlers_generic_handler(SERVICE, {"FetchSecrets": fetch})
        server.add_generic_rpc_handlers((certificate_handlers(service), ads.handler(), secrets))
        credentials = server_credentials(ControlPlaneTls(self._authority, clock))
        server.add_secure_port(f"127.0.0.1:{self._ads_port}", credentials)
        server.add_insecure_port(f"unix:{self._places.runtime}/enrol.sock")
        await server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    def publish(self, proxy_id: str, *listeners: Any) -> None:
        """Give a proxy these listeners from now on."""
        self._snapshots[proxy_id].set(snapshot([build(listener.name, listener) for listener in listeners]))

    async def __aenter__(self) -> ControlPlane:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def acquire(self, proxy_id: str) -> Latest[Snapshot]:
        return self._snapshots[proxy_id]

    def release(self, proxy_id: str) -> None:
        pass

    def _authorize(self, peer: bytes | None, node_id: str) -> None:
        if peer is None or peer_identity(peer, clock()).path != f"/ns/shop/sa/{node_id.rpartition('~')[2]}":
            raise NotEnrolled(f"not {node_id}")

    async def _fetch(self, request: Any, context: Any) -> Any:
        self.fetched.extend(request.resource_names)
        found = [self.secrets[name] for name in request.resource_names if name in self.secrets]
        return discovery_v3.DiscoveryResponse(type_url=SECRET_TYPE, resources=found)


def snapshot_of(port: int) -> Snapshot:
    """One HTTPS listener that answers 200 with the proxy's certificate."""
    return snapshot([build("https", https_listener("https", port, SVID))])


def https_listener(name: str, port: int, secret: str) -> Any:
    route = route_v3.Route(
        match=route_v3.RouteMatch(prefix="/"), direct_response=route_v3.DirectResponseAction(status=200)
    )
    manager = http_connection_manager_v3.HttpConnectionManager(
        stat_prefix="test",
        route_config=route_v3.RouteConfiguration(
            virtual_hosts=[route_v3.VirtualHost(name="all", domains=["*"], routes=[route])]
        ),
        http_filters=[
            http_connection_manager_v3.HttpFilter(
                name="envoy.filters.http.router", typed_config=any_of(router_v3.Router())
            )
        ],
    )
    tls = tls_v3.DownstreamTlsContext(
        common_tls_context=tls_v3.CommonTlsContext(tls_certificate_sds_secret_configs=[sds_secret(secret)])
    )
    chain = listener_v3.FilterChain(
        filters=[
            listener_v3.Filter(name="envoy.filters.network.http_connection_manager", typed_config=any_of(manager))
        ],
        transport_socket=core_v3.TransportSocket(name="envoy.transport_sockets.tls", typed_config=any_of(tls)),
    )
    listener = listener_v3.Listener(
        name=name,
        address=socket_address(Address("127.0.0.1", port)),
        filter_chains=[chain],
    )
    listener.enable_reuse_port.value = False
    return listener


def leaf_of(port: int) -> x509.Certificate:
    """The certificate that is shown on the wire now. Raises OSError if none is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 2) as raw, context.wrap_socket(raw) as wrapped:
        shown = wrapped.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown)


def uri_of(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


async def until(found: Callable[[], Any], within: float = 60.0) -> Any:
    """Try ``found`` (or await it) until it gives something true; what it raised last is raised in the end."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        failure: Exception | None = None
        try:
            value = found()
            if isinstance(value, Awaitable):
                value = await value
            if value:
                return value
        except Exception as failed:
            failure = failed
        if loop.time() > deadline:
            raise AssertionError(f"not within {within} s") from failure
        await asyncio.sleep(0.03)


async def on_wire(port: int) -> x509.Certificate:
    return await asyncio.to_thread(leaf_of, port)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def _serve(state: str, runtime: str, ads_port: str, ports: str) -> None:
    """As a child of a supervisor: until standard input ends. ``token.sock`` gives a join token to whoever connects."""
    places = Folders(Path(state), Path(runtime))
    control_plane = ControlPlane(places, int(ads_port), json.loads(ports))
    await control_plane.start()

    async def give(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(control_plane.token().encode())
        writer.close()

    path = places.runtime / "token.sock"
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(give, path)
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    await control_plane.stop()


async def ask_token(places: Folders) -> str:
    reader, writer = await asyncio.open_unix_connection(places.runtime / "token.sock")
    token = (await reader.read()).decode()
    writer.close()
    return token


async def _supervise(state: str, runtime: str, ads_port: str, ports: str) -> None:
    """A whole supervisor as a process of its own; its plan is the file ``plan.json`` of the runtime folder."""
    from isthmus.proxy.crew import CrewSettings
    from isthmus.proxy.supervise import Supervisor, SupervisorSettings

    places = Folders(Path(state), Path(runtime))
    settings = SupervisorSettings(
        CrewSettings(places, drain=timedelta(seconds=2)),
        control_plane=(sys.executable, __file__, "serve", state, runtime, ads_port, ports),
        agent=agent_argv(places),
    )

    async def next_plan(version: int | None) -> Plan:
        while True:
            plan = from_json((places.runtime / "plan.json").read_bytes())
            if plan.version != version:
                return plan
            await asyncio.sleep(0.05)

    def say(who: str, what: str) -> None:
        print(f"{who}: {what}", flush=True)

    supervisor = Supervisor(settings, next_plan, lambda _node: ask_token(places), say)
    sys.exit(await supervisor.run())


def agent_argv(places: Folders) -> tuple[str, ...]:
    code = (
        "import sys; from pathlib import Path; from isthmus.proxy.agent import main; "
        "sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))"
    )
    return (sys.executable, "-c", code, str(places.state), str(places.runtime))


def write_plan(places: Folders, plan: Plan) -> None:
    new = places.runtime / "plan.new"
    new.write_text(json.dumps(to_json(plan)))
    os.replace(new, places.runtime / "plan.json")


if __name__ == "__main__":
    asyncio.run({"serve": _serve, "supervise": _supervise}[sys.argv[1]](*sys.argv[2:]))
