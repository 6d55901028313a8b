"""nginx before the mesh: its sidecar takes its plaintext and starts mutual TLS; others' sidecars take none."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import grpc
import httpx
import pytest

from tests.real.backend import Backend, header
from tests.real.grpc_echo import GrpcEcho, Stub
from tests.real.log import logged
from tests.real.servers import find_server
from tests.real.traffic import Manifest, dump, manifest, service, workload
from tests.real.up import Up, eventually, free_port

pytestmark = pytest.mark.real

NGINX = "spiffe://cluster.local/ns/shop/sa/nginx"
CONFIGURATION = """\
daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp; uwsgi_temp_path temp; scgi_temp_path temp;
    server {
        listen 127.0.0.1:%(http)d;
        location / { proxy_pass http://127.0.0.1:%(web)d; proxy_http_version 1.1; proxy_set_header Host $host; }
        location /direct { proxy_pass http://%(direct)s; proxy_http_version 1.1; }
    }
    server {
        listen 127.0.0.1:%(grpc)d http2;
        location / { grpc_pass grpc://127.0.0.1:%(echo)d; }
    }
}
"""


@dataclass(frozen=True)
class Gateway:
    """A running nginx, and the mesh behind it."""

    up: Up
    http: int
    grpc: int
    web: Backend


def manifests(web: int, echo: int, binds: tuple[int, int]) -> Iterator[Manifest]:
    yield manifest("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}}, "istio-system")
    for name, port_name, port in (("web", "http", web), ("echo", "grpc", echo)):
        yield service(name, ports=[{"name": port_name, "port": 8080}])
        yield workload(name, port, {"app": name}, ports={port_name: port}, serviceAccount=name)
    rule = {"from": [{"source": {"principals": [NGINX.removeprefix("spiffe://")]}}]}
    yield manifest("AuthorizationPolicy", "nginx-only", {"action": "ALLOW", "rules": [rule]})
    names = zip(("web", "echo"), binds, strict=True)
    upstreams = [{"host": name, "port": 8080, "bind": f"127.0.0.1:{bind}"} for name, bind in names]
    yield manifest("LocalWorkload", "nginx", {"serviceAccount": "nginx", "upstreams": upstreams})


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    program = find_server("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    with ExitStack() as running:
        web, echo = running.enter_context(Backend("web")), running.enter_context(GrpcEcho())
        bound, http, grpc_port = (free_port(), free_port()), free_port(), free_port()
        up = running.enter_context(Up(folder, {"all.yaml": dump(*manifests(web.port, echo.port, bound))}))
        (direct,) = up.workload("web")["inbound"].values()
        ports = {"http": http, "grpc": grpc_port, "web": bound[0], "echo": bound[1], "direct": direct}
        (folder / "nginx.conf").write_text(CONFIGURATION % ports)
        argv = [str(program), "-p", str(folder), "-c", "nginx.conf"]
        nginx = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            edge = Gateway(up, http, grpc_port, web)
            eventually(lambda: get(edge, "/").status_code == 200, 20)
            yield edge
        finally:
            nginx.terminate()
            nginx.wait(20)


def get(edge: Gateway, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{edge.http}{path}", headers=headers, trust_env=False, verify=False, timeout=20)


def test_the_program_sees_nginx_as_its_caller(edge: Gateway) -> None:
    spoofed = "URI=spiffe://cluster.local/ns/shop/sa/admin"
    answer = get(edge, "/books", **{"x-forwarded-client-cert": spoofed})
    assert answer.status_code == 200
    xfcc = header(answer.json(), "x-forwarded-client-cert") or ""
    assert xfcc.startswith("By=spiffe://cluster.local/ns/shop/sa/web;")
    assert xfcc.endswith(f"URI={NGINX}")
    assert "sa/admin" not in xfcc
    line = logged(edge.up, "sidecar~shop~nginx", path="/books")
    assert (line["self"], line["protocol"]) == (NGINX, "HTTP/1.1")
    assert line["upstream_peer"] == "spiffe://cluster.local/ns/shop/sa/web"
    assert logged(edge.up, "sidecar~shop~web", path="/books")["peer"] == NGINX


def test_http2_from_nginx(edge: Gateway) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{edge.grpc}", [("grpc.enable_http_proxy", 0)]) as channel:
        answer = Stub(channel).say(b"hello", timeout=20)
    assert answer.startswith(b"hello|")
    assert answer.endswith(f"URI={NGINX}".encode())
    assert logged(edge.up, "sidecar~shop~nginx", path="/shop.Echo/Say")["protocol"] == "HTTP/2"


def test_plaintext_to_the_other_sidecar_is_refused(edge: Gateway) -> None:
    """As some articles advise it: STRICT closes what is not mutual TLS, and the program hears nothing of it."""
    seen = len(edge.web.seen)
    assert get(edge, "/direct").status_code == 502
    assert len(edge.web.seen) == seen
