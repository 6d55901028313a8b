"""A port for infrastructure's health checks: answers without a certificate, opens nothing, and tells of draining."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.http2 import H2Client
from tests.real.pki import Authority
from tests.real.traffic import Manifest, dump, gateway, routes, server, service, to, workload
from tests.real.traffic_credentials import secret
from tests.real.up import Up, eventually, free_port

pytestmark = pytest.mark.real

CHECK = "ClientTrafficPolicy.spec.healthCheck."
HOST = "shop.example.com"
TTL_SECONDS = 20
"""Of certificates; connections live for a quarter of it."""


def policy(name: str, gateway_name: str, port: int, path: str) -> Manifest:
    spec = {"targetRefs": [{"kind": "Gateway", "name": gateway_name}], "healthCheck": {"port": port, "path": path}}
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "isthmus.dev/v1alpha1", "kind": "ClientTrafficPolicy", "metadata": metadata, "spec": spec}


def manifests(authority: Authority, port: int) -> str:
    leaf = authority.issue(HOST)
    data = {"tls.crt": leaf.chain, "tls.key": leaf.key, "ca.crt": authority.pem}
    mutual = {"mode": "MUTUAL", "credentialName": "all"}
    return dump(
        gateway("edge", server(443, HOST, protocol="HTTPS", tls=mutual), selector={"app": "edge"}),
        gateway("plain", server(8080, HOST), selector={"app": "edge"}),
        policy("health", "edge", 15021, "/healthz/ready"),
        policy("taken", "plain", 443, "/healthz/ready"),
        secret("all", type="kubernetes.io/tls", data=data),
        routes("all", [HOST], {"route": [to("web")]}, gateways=["edge", "plain"]),
        service("web"),
        workload("web", port, {"app": "web"}),
    )


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("everybody")


@pytest.fixture(scope="module")
def published() -> int:
    return free_port()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, authority: Authority, published: int) -> Iterator[Up]:
    options = ("-p", f"{published}:15021", "--svid-ttl", f"{TTL_SECONDS}s")
    with Backend() as backend:
        folder = tmp_path_factory.mktemp("health")
        with Up(folder, {"all.yaml": manifests(authority, backend.port)}, *options) as running:
            yield running


@pytest.fixture(scope="module")
def own(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    leaf = authority.issue("spiffe://partners.example/alice")
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.load_cert_chain(leaf.written(tmp_path_factory.mktemp("own"), "own"))
    return context


@enforces(CHECK + "port", CHECK + "path")
def test_it_answers_its_path_and_nothing_else(up: Up, published: int) -> None:
    with httpx.Client(
        base_url=f"http://127.0.0.1:{published}", trust_env=False, timeout=30, verify=False, headers={"host": HOST}
    ) as client:
        assert client.get("/healthz/ready").status_code == 200
        assert client.head("/healthz/ready").status_code == 200
        for path in ("/", "/healthz", "/healthz/ready/", "/healthz/ready?x=1", "/HEALTHZ/ready", "//healthz/ready/.."):
            assert client.get(path).status_code == 404, path
        assert client.get("/%2e%2e%2fhealthz/ready").status_code == 400
        assert client.post("/healthz/ready", content=b"x").status_code == 404
        assert client.get("/healthz/ready", headers={"host": "anything.example.org"}).status_code == 200


@enforces(CHECK + "port")
def test_it_is_published_and_told_of_as_other_ports_are(up: Up, published: int) -> None:
    (edge,) = up.ready["gateways"]
    assert edge["health_checks"] == [
        {"declared_port": 15021, "address": f"127.0.0.1:{published}", "paths": ["/healthz/ready"]}
    ]
    assert {listener["declared_port"] for listener in edge["listeners"]} == {443, 8080}


@enforces(CHECK + "path")
def test_the_data_ports_do_not_answer_in_its_place(up: Up, authority: Authority, own: ssl.SSLContext) -> None:
    """Without a certificate not at all, with one as the program does."""
    nobody = ssl.create_default_context(cadata=authority.pem.decode())
    with (
        httpx.Client(verify=nobody, trust_env=False, timeout=30) as client,
        pytest.raises((httpx.ReadError, httpx.ConnectError)),
    ):
        up.send(client, "GET", f"https://{HOST}/healthz/ready")
    with httpx.Client(verify=own, trust_env=False, timeout=30) as client:
        assert up.send(client, "GET", f"https://{HOST}/healthz/ready").json()["path"] == "/healthz/ready"


@enforces(CHECK + "port")
def test_no_check_is_put_on_a_servers_port(up: Up, own: ssl.SSLContext) -> None:
    assert "ISM2261" in up.output
    address, port = up.gateway(443)
    with socket.create_connection((address, port), 10) as raw, contextlib.suppress(ConnectionResetError):
        raw.sendall(f"GET /healthz/ready HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
        assert not raw.recv(100).startswith(b"HTTP/1.1 200")


def test_connections_of_known_clients_do_not_outlive_a_quarter_of_a_certificates_life(
    up: Up, own: ssl.SSLContext
) -> None:
    """A certificate that was good at the handshake need not be any more."""
    began = time.monotonic()
    with H2Client(up.gateway(443), own, HOST) as client:
        assert client.get(HOST)[0] == 200

        def ended() -> bool:
            try:
                return client.get(HOST)[0] != 200
            except (ConnectionError, OSError):
                return True

        eventually(ended, TTL_SECONDS / 4 + 60, every=0.1)
    assert time.monotonic() - began >= TTL_SECONDS / 4 - 1


def test_while_it_drains_it_says_so_and_the_data_port_still_answers(
    tmp_path: Path, authority: Authority, own: ssl.SSLContext
) -> None:
    """Whoever sends requests hears of it before they fail."""
    found: list[int] = []
    ended = threading.Event()

    def ask(address: str) -> None:
        while not ended.is_set():
            try:
                found.append(
                    httpx.get(f"http://{address}/healthz/ready", trust_env=False, verify=False, timeout=5).status_code
                )
            except httpx.HTTPError:
                found.append(0)
            time.sleep(0.005)

    with Backend() as backend, Up(tmp_path, {"all.yaml": manifests(authority, backend.port)}) as running:
        address = running.ready["gateways"][0]["health_checks"][0]["address"]
        asking = threading.Thread(target=ask, args=(address,))
        asking.start()
        eventually(lambda: found.count(200) > 3)
        running.stop(signal.SIGTERM)
        ended.set()
        asking.join()
    assert 503 in found
    assert 200 not in found[found.index(503) :]
