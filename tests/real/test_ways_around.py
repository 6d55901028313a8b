"""Ways around policies on real Envoys: another route once the token is verified, and plain connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.real.backend import Backend
from tests.real.client_authentication import FIRST, authentication, issuers
from tests.real.fields_peer import bearer, inbound
from tests.real.traffic import Manifest, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.up import Up, development_jwks, eventually

pytestmark = pytest.mark.real

EDGE, HOST = "gateway~shop~edge", "shop.example.com"
CLAIM = {"@request.auth.claims.role": {"exact": "admin"}}
DENY = "package envoy.authz\n\ndefault allow := false\n"
KINDS = ("key", "rego", "access", "local", "global")


def ours(kind: str, name: str, **spec: object) -> Manifest:
    return {**manifest(kind, name, spec), "apiVersion": "isthmus.dev/v1alpha1"}


def by_claim(name: str) -> Iterator[Manifest]:
    """A route that nobody comes to before the token is verified, and the one where everybody begins."""
    match = {"uri": {"prefix": f"/{name}"}}
    yield {"name": name, "match": [{**match, "headers": CLAIM}], "route": [to("web")]}
    yield {"match": [match], "route": [to("web")]}


def named(name: str) -> dict[str, object]:
    return {"targetRefs": [{"kind": "VirtualService", "name": "shop", "sectionName": name}]}


def manifests(port: int, jwks: str) -> Iterator[Manifest]:
    yield gateway("edge", server(80), server(9000, protocol="TCP", name="tcp"), selector={"app": "edge"})
    yield routes("shop", [HOST], *(route for name in KINDS for route in by_claim(name)), gateways=["edge"])
    yield manifest("VirtualService", "tcp", {"hosts": ["*"], "gateways": ["edge"], "tcp": [{"route": [to("db", 90)]}]})
    yield service("web")
    yield service("db", ports=[{"name": "tcp", "port": 90}])
    yield workload("web", port, {"app": "web"})
    ports = [{"name": "tcp", "number": 90, "listen": port}]
    yield ours("LocalWorkload", "db", labels={"app": "db"}, ports=ports)
    yield manifest("PeerAuthentication", "default", {"mtls": {"mode": "PERMISSIVE"}})
    yield issuers(jwks, FIRST)
    yield authentication("key", {"apiKey": {}})
    yield ours("RegoPolicy", "rego", **named("rego"), rego=DENY)
    yield ours("AccessPolicy", "access", **named("access"), rules=[{"methods": ["POST"]}])
    once = {"name": "once", "requests": 1, "per": "1h", "by": [{"address": True}]}
    yield ours("RateLimitPolicy", "local", **named("local"), limits=[once])
    yield ours("RateLimitPolicy", "global", **named("global"), limits=[{**once, "scope": "GLOBAL"}])


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("around")
    jwks = development_jwks(folder / "state", folder / "jwks.json").read_text()
    with Backend("web") as web, Up(folder, {"all.yaml": dump(*manifests(web.port, jwks))}) as running:
        yield running


def status(up: Up, path: str, **claims: str) -> int:
    headers = {"host": HOST}
    if claims:
        headers["authorization"] = f"Bearer {bearer(up, FIRST, **claims)}"
    return up.get(f"http://{HOST}/{path}", headers=headers).status_code


@pytest.mark.parametrize(("name", "refused"), [("key", 401), ("rego", 403), ("access", 403)])
def test_a_policy_of_a_route_that_is_chosen_anew(up: Up, name: str, refused: int) -> None:
    assert status(up, name) == 200, "the first route has no policy"
    assert status(up, name, role="clerk") == 200
    assert status(up, name, role="admin") == refused
    assert status(up, f"nowhere/{name}", role="admin") == 404


@pytest.mark.parametrize("name", ["local", "global"])
def test_a_limit_of_a_route_that_is_chosen_anew(up: Up, name: str) -> None:
    assert [status(up, name) for _ in range(3)] == [200, 200, 200]
    assert [status(up, name, role="admin") for _ in range(2)] == [200, 429]


def greeted(address: tuple[str, int]) -> bool:
    """Whether a plain connection gets any answer."""
    with socket.create_connection(address, 10) as there:
        there.sendall(f"GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n".encode())
        try:
            return there.recv(1) != b""
        except ConnectionError:
            return False


def test_plain_connections_where_a_policy_speaks_of_requests(up: Up, tmp_path: Path) -> None:
    host, _, port = inbound(up, "db", 90).rpartition(":")
    inside, outside = (host, int(port)), up.gateway(9000)
    assert greeted(inside)
    assert greeted(outside)
    credential = authentication("db", {"apiKey": {}}, selector={"matchLabels": {"app": "db"}})
    up.write("db.yaml", dump(credential))
    eventually(lambda: not greeted(inside))
    up.remove("db.yaml")
    eventually(lambda: greeted(outside))
    target = {"targetRefs": [{"kind": "Gateway", "name": "edge", "sectionName": "tcp"}]}
    up.write("db.yaml", dump(ours("RegoPolicy", "db", **target, rego=DENY)))
    eventually(lambda: not greeted(outside))
    assert greeted(inside)
    with httpx.Client(trust_env=False, timeout=30, verify=False) as client:
        assert up.send(client, "GET", f"http://{HOST}/", headers={"host": HOST}).status_code == 404
