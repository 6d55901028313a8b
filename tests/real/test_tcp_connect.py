"""CONNECT through a program's own proxy: requests within it, plain connections, TLS, hosts outside and strangers."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.backend import Backend, header
from tests.real.echo import Echo
from tests.real.log import logged
from tests.real.traffic import Caller, Manifest, caller, dump, manifest, outbound_policy, routes, service, to, workload
from tests.real.traffic_credentials import Authority
from tests.real.tunnel import Refused, connect, exchange, get
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

WEB, STORE = ("web.shop.svc.cluster.local:80", "store.shop.svc.cluster.local:5432")
SECURE = "secure.example.com:443"
FRONT = "sidecar~shop~front"


def access(app: str, *rules: Manifest) -> Manifest:
    spec = {"selector": {"matchLabels": {"app": app}}, "action": "ALLOW", "rules": list(rules)}
    return manifest("AuthorizationPolicy", app, spec)


def manifests(web: int, canary: int, store: int, secure: int, folder: Path) -> Iterator[Manifest]:
    front = {"from": [{"source": {"principals": ["cluster.local/ns/shop/sa/front"]}}]}
    yield manifest("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}}, "istio-system")
    for name, port in (("web", web), ("canary", canary)):
        yield service(name)
        yield workload(name, port, {"app": name}, serviceAccount=name)
    yield service("store", ports=[{"name": "tcp", "port": 5432}])
    yield workload("store", store, {"app": "store"}, ports={"tcp": store}, serviceAccount="store")
    yield routes(
        "web",
        ["web"],
        {"match": [{"headers": {"x-canary": {"exact": "yes"}}}], "route": [to("canary")]},
        {"route": [to("web")]},
    )
    yield access("web", {**front, "to": [{"operation": {"notPaths": ["/secret"]}}]})
    yield access("store", front)
    entry = {
        "hosts": ["secure.example.com"],
        "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "127.0.0.1", "ports": {"tls": secure}}],
    }
    yield manifest("ServiceEntry", "secure", entry)
    for name in ("front", "stranger"):
        yield caller(name, folder, serviceAccount=name)


@dataclass(frozen=True)
class Behind:
    """Who stands behind the mesh."""

    web: Backend
    canary: Backend
    store: Echo
    secure: Echo
    trust: ssl.SSLContext


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("connect")


@pytest.fixture(scope="module")
def behind(folder: Path) -> Iterator[Behind]:
    authority = Authority("outside")
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(authority.certify("secure.example.com").written(folder, "secure"))
    with ExitStack() as running:
        web, canary = (running.enter_context(Backend(name)) for name in ("web", "canary"))
        store, secure = running.enter_context(Echo("store")), running.enter_context(Echo("secure", own))
        yield Behind(web, canary, store, secure, authority.trusted())


@pytest.fixture(scope="module")
def up(folder: Path, behind: Behind) -> Iterator[Up]:
    found = manifests(behind.web.port, behind.canary.port, behind.store.port, behind.secure.port, folder)
    with Up(folder, {"all.yaml": dump(*found)}) as up:
        yield up


@pytest.fixture(scope="module")
def proxy(up: Up, folder: Path) -> str:
    return Caller("front", folder).env["http_proxy"]


def test_requests_within_get_routes_identity_and_policies(up: Up, proxy: str) -> None:
    host = WEB.removesuffix(":80")
    with connect(proxy, WEB) as there:
        status, body = get(there, host)
        saw = json.loads(body)
        assert (status, saw["backend"]) == (200, "web")
        xfcc = header(saw, "x-forwarded-client-cert") or ""
        assert xfcc.startswith("By=spiffe://cluster.local/ns/shop/sa/web;")
        assert xfcc.endswith("URI=spiffe://cluster.local/ns/shop/sa/front")
        assert json.loads(get(there, host, x_canary="yes")[1])["backend"] == "canary", "the caller's route"
        assert get(there, host, "/secret")[0] == 403, "the callee's policy"
    outer = logged(up, FRONT, method="CONNECT", authority=WEB)
    assert (outer["status"], outer["upstream_cluster"]) == (200, "connect")
    inner = logged(up, FRONT, method="GET", path="/secret")
    assert (inner["hop"], inner["status"]) == ("outbound", 403)
    assert inner["upstream_peer"] == "spiffe://cluster.local/ns/shop/sa/web"


def test_who_calls_decides_within_too(up: Up, folder: Path) -> None:
    stranger = Caller("stranger", folder).env["http_proxy"]
    with connect(stranger, WEB) as there:
        assert get(there, WEB)[0] == 403
    with connect(stranger, STORE) as there:
        assert exchange(there, b"hello\n") == b""


def test_curl_tunnels(up: Up, proxy: str) -> None:
    argv = ["curl", "-sS", "--max-time", "20", "--proxytunnel", "--proxy", proxy, f"http://{WEB}/by-curl"]
    done = subprocess.run(argv, env={}, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"] == "/by-curl"


def test_the_host_within_chooses_as_it_does_outside(up: Up, proxy: str) -> None:
    """A tunnel to one service is no way around the routes of another."""
    with connect(proxy, WEB) as there:
        assert json.loads(get(there, "canary.shop.svc.cluster.local")[1])["backend"] == "canary"


def test_a_plain_connection_goes_straight_into_mutual_tls(up: Up, proxy: str, behind: Behind) -> None:
    with connect(proxy, STORE) as there:
        assert exchange(there, b"hello\n") == b"store:hello\n"
    store, front = (f"spiffe://cluster.local/ns/shop/sa/{name}" for name in ("store", "front"))
    assert logged(up, FRONT, method="CONNECT", authority=STORE, upstream_peer=store)["status"] == 200
    assert logged(up, "sidecar~shop~store", peer=front)["self"] == store


def test_tls_of_the_program_itself_goes_through(up: Up, proxy: str, behind: Behind) -> None:
    with connect(proxy, SECURE) as there:
        with behind.trust.wrap_socket(there, server_hostname="secure.example.com") as secured:
            assert exchange(secured, b"hello\n") == b"secure:hello\n"


def test_tls_to_a_port_of_plain_http_is_closed_and_logged(up: Up, proxy: str, behind: Behind) -> None:
    with connect(proxy, WEB) as there, pytest.raises((ssl.SSLError, OSError)):
        behind.trust.wrap_socket(there, server_hostname="web.shop.svc.cluster.local")
    line = logged(up, FRONT, details="filter_chain_not_found")
    assert (line["sni"], line["response_flags"]) == ("web.shop.svc.cluster.local", "NR")


@pytest.mark.parametrize("authority", [WEB, STORE, SECURE, "any.localhost:1"])
@pytest.mark.parametrize("credential", ["", "w:guess"])
def test_strangers_get_407(up: Up, proxy: str, authority: str, credential: str) -> None:
    with pytest.raises(Refused) as refused:
        connect(proxy, authority, credential=credential)
    assert refused.value.status == 407
    assert refused.value.headers["proxy-authenticate"].startswith("Basic ")


def test_hosts_outside(up: Up, proxy: str, behind: Behind) -> None:
    """By default they are tunnelled as they are; with REGISTRY_ONLY only those of the registry."""
    outside = f"any.localhost:{behind.store.port}"
    with connect(proxy, outside) as there:
        assert exchange(there, b"hello\n") == b"store:hello\n"
    with pytest.raises(Refused) as nowhere:
        connect(proxy, "nowhere.invalid:443")
    assert nowhere.value.status == 503
    assert logged(up, FRONT, authority="nowhere.invalid:443")["details"].startswith("dns_resolution_failure")
    up.write("mesh.yaml", outbound_policy("REGISTRY_ONLY"))

    def refused() -> bool:
        try:
            connect(proxy, outside).close()
        except Refused as refusal:
            return refusal.status == 502 and refusal.body.startswith("not in the registry")
        return False

    eventually(refused)
    assert logged(up, FRONT, authority=outside, status=502)["route"] == "block_all"
    with connect(proxy, WEB) as there:
        assert get(there, WEB)[0] == 200
        assert get(there, f"localhost:{behind.web.port}")[0] == 502, "nor by way of a tunnel to a service"
    with connect(proxy, STORE) as there:
        assert exchange(there, b"hello\n") == b"store:hello\n"
    up.remove("mesh.yaml")
    eventually(lambda: not refused())


def test_a_port_that_the_service_does_not_have(up: Up, proxy: str) -> None:
    with pytest.raises(Refused) as refused:
        connect(proxy, "store.shop.svc.cluster.local:1")
    assert refused.value.status == 503
