"""Services outside the mesh: names, addresses, certificates' names, and what stays out of the mesh, on real Envoys."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.real.backend import Backend, header
from tests.real.echo import Echo
from tests.real.fields import enforces
from tests.real.log import logged
from tests.real.traffic import (
    Caller,
    Manifest,
    caller,
    dump,
    gateway,
    manifest,
    outbound_policy,
    routes,
    server,
    service,
    to,
    workload,
)
from tests.real.traffic_credentials import Authority
from tests.real.tunnel import Refused, connect, exchange, get
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

ENTRY = "ServiceEntry.spec."
FRONT = "sidecar~shop~front"
NOBODY = 503
HTTP_PORT = {"number": 80, "name": "http", "protocol": "HTTP"}
TCP_PORT = {"number": 5000, "name": "tcp", "protocol": "TCP"}


def entry(name: str, *ports: Manifest, **spec: object) -> Manifest:
    found = {"hosts": [f"{name}.example.com"], "ports": list(ports or (HTTP_PORT,)), "resolution": "STATIC", **spec}
    return manifest("ServiceEntry", name, found)


def at(port: int, name: str = "http", address: str = "127.0.0.1", **more: object) -> Manifest:
    return {"address": address, "ports": {name: port}, **more}


def tls(name: str, **settings: object) -> Manifest:
    spec = {"host": f"{name}.example.com", "trafficPolicy": {"tls": settings}}
    return manifest("DestinationRule", name, spec)


@dataclass(frozen=True)
class Behind:
    web: Backend
    echo: Echo
    secure: Echo
    authority: Path


def manifests(behind: Behind, folder: Path) -> Iterator[Manifest]:
    web, echo = behind.web.port, behind.echo.port
    yield manifest("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}}, "istio-system")
    yield entry(
        "addressed",
        HTTP_PORT,
        TCP_PORT,
        endpoints=[{"address": "127.0.0.1", "ports": {"http": web, "tcp": echo}}],
        addresses=["192.0.2.7", "2001:db8::7"],
    )
    yield entry("range", endpoints=[at(web)], addresses=["198.51.100.0/24"])
    yield entry("robin", resolution="DNS_ROUND_ROBIN", endpoints=[at(web, address="localhost")])
    yield entry("robin-nowhere", resolution="DNS_ROUND_ROBIN", endpoints=[at(web, address="nowhere.invalid")])
    yield entry("dns-nowhere", resolution="DNS", endpoints=[at(web, address="nowhere.invalid")])
    anywhere = {"hosts": ["*.localhost"], "ports": [{**HTTP_PORT, "number": web}, {**TCP_PORT, "number": echo}]}
    yield manifest("ServiceEntry", "anywhere", anywhere)
    # Within the mesh: whom the caller demands stands in the entry.
    yield service("inner", ports=[{"name": "http", "port": 80}])
    yield workload("inner", web, {"app": "inner"}, serviceAccount="inner")
    inside = {"location": "MESH_INTERNAL", "workloadSelector": {"labels": {"app": "inner"}}}
    for name, account in (("right", "inner"), ("wrong", "other")):
        yield entry(name, **inside, subjectAltNames=[f"spiffe://cluster.local/ns/shop/sa/{account}"])
    # Outside: TLS that begins at the proxy, to a certificate for secure.own.
    for name, names in (("outer-right", ["secure.own"]), ("outer-wrong", ["other.own"]), ("outer-unsaid", [])):
        said = {"subjectAltNames": names} if names else {}
        yield entry(name, TCP_PORT, endpoints=[at(behind.secure.port, "tcp")], **said)
        yield tls(name, mode="SIMPLE", caCertificates=str(behind.authority))
    yield gateway("edge", server(80, "api.example.com"))
    yield routes(
        "edge",
        ["api.example.com"],
        {"match": [{"uri": {"prefix": "/anywhere"}}], "route": [to("none.example.com", 80)]},
        {"route": [to("robin.example.com")]},
        gateways=["edge"],
    )
    yield manifest("ServiceEntry", "none", {"hosts": ["none.example.com"], "ports": [HTTP_PORT]})
    yield caller("front", folder, serviceAccount="front", upstreams=[{"host": "none.example.com", "port": 80}])
    excluded = {
        "traffic.sidecar.istio.io/excludeOutboundPorts": str(echo),
        "traffic.sidecar.istio.io/excludeOutboundIPRanges": "192.0.2.9/32, 10.0.0.0/8",
        "traffic.sidecar.istio.io/includeInboundPorts": "8080",
    }
    yield {**(back := caller("back", folder)), "metadata": {**back["metadata"], "annotations": excluded}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(scope="module")
def behind(folder: Path) -> Iterator[Behind]:
    authority = Authority("outside")
    file = folder / "authority.pem"
    file.write_bytes(authority.pem)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(authority.certify("secure.own").written(folder, "secure"))
    with ExitStack() as running:
        web = running.enter_context(Backend("web"))
        echo, secure = running.enter_context(Echo("echo")), running.enter_context(Echo("secure", own))
        yield Behind(web, echo, secure, file)


@pytest.fixture(scope="module")
def up(folder: Path, behind: Behind) -> Iterator[Up]:
    found = dump(*manifests(behind, folder))
    with Up(folder, {"all.yaml": found, "mesh.yaml": outbound_policy("REGISTRY_ONLY")}) as up:
        yield up


@pytest.fixture(scope="module")
def front(up: Up, folder: Path) -> Caller:
    return Caller("front", folder)


def tunnelled(front: Caller, authority: str) -> bytes:
    with connect(front.env["http_proxy"], authority) as there:
        return exchange(there, b"hello\n")


@enforces(ENTRY + "addresses")
def test_addresses_are_names_too(up: Up, front: Caller) -> None:
    assert front.get("http://192.0.2.7/").json()["backend"] == "web"
    for address in ("192.0.2.7", "[2001:db8::7]"):
        assert tunnelled(front, f"{address}:5000") == b"echo:hello\n"
    assert front.status("http://192.0.2.8/") == 502
    assert front.status("http://198.51.100.7/") == 502
    assert 'the range "198.51.100.0/24" has no effect' in up.output


@enforces(ENTRY + "resolution")
def test_round_robin_by_name(front: Caller) -> None:
    assert {front.get("http://robin.example.com/").json()["backend"] for _ in range(4)} == {"web"}
    assert front.status("http://robin-nowhere.example.com/") == NOBODY


@enforces(ENTRY + "resolution")
def test_a_name_that_does_not_resolve_is_told_and_the_rest_goes_on(up: Up, front: Caller) -> None:
    assert front.status("http://dns-nowhere.example.com/") == NOBODY
    line = logged(up, FRONT, authority="dns-nowhere.example.com")
    assert (line["response_flags"], line["details"]) == ("UH", "no_healthy_upstream")
    assert line["upstream_cluster"] == "outbound|80||dns-nowhere.example.com"
    assert front.status("http://addressed.example.com/") == 200


@enforces(ENTRY + "resolution", ENTRY + "hosts")
def test_none_goes_where_the_caller_says(front: Caller, behind: Behind) -> None:
    assert front.get(f"http://any.localhost:{behind.web.port}/").json()["backend"] == "web"
    assert tunnelled(front, f"any.localhost:{behind.echo.port}") == b"echo:hello\n"
    with connect(front.env["http_proxy"], f"any.localhost:{behind.web.port}") as there:
        assert get(there, f"other.localhost:{behind.web.port}")[0] == 200
        assert get(there, f"127.0.0.1:{behind.web.port}")[0] == 502, "the host within counts"
    with pytest.raises(Refused):
        tunnelled(front, f"any.localhost:{behind.secure.port}")


@enforces(ENTRY + "resolution")
def test_none_from_where_nobody_says_is_reported(up: Up, front: Caller) -> None:
    assert (
        up.send(
            httpx.Client(trust_env=False, timeout=30, verify=False), "GET", "http://api.example.com/anywhere"
        ).status_code
        == NOBODY
    )
    assert (
        up.send(httpx.Client(trust_env=False, timeout=30, verify=False), "GET", "http://api.example.com/").status_code
        == 200
    )
    assert '"none.example.com" has resolution NONE' in up.output
    assert "at a gateway nobody says so" in up.output
    assert "at a local address nobody says so" in up.output


@enforces(ENTRY + "subjectAltNames")
def test_names_of_certificates(up: Up, front: Caller) -> None:
    """Of SPIFFE IDs within the mesh, of servers outside where TLS begins at the proxy."""
    xfcc = header(front.get("http://right.example.com/").json(), "x-forwarded-client-cert") or ""
    assert "By=spiffe://cluster.local/ns/shop/sa/inner;" in xfcc
    assert front.status("http://wrong.example.com/") == NOBODY
    assert "VERIFY" in logged(up, FRONT, authority="wrong.example.com")["upstream_failure"]
    assert tunnelled(front, "outer-right.example.com:5000") == b"secure:hello\n"
    for name in ("outer-wrong", "outer-unsaid"):
        with pytest.raises(Refused) as refused:
            tunnelled(front, f"{name}.example.com:5000")
        assert refused.value.status == NOBODY
        assert "VERIFY" in logged(up, FRONT, authority=f"{name}.example.com:5000")["upstream_failure"]


def test_what_is_left_out_of_the_mesh(up: Up, front: Caller, folder: Path, behind: Behind) -> None:
    """Only registered hosts may be called, except at excluded ports; excluded ranges are the program's to follow."""
    back = Caller("back", folder)
    outside = f"127.0.0.1:{behind.echo.port}"
    assert tunnelled(back, outside) == b"echo:hello\n"
    assert logged(up, "sidecar~shop~back", authority=outside)["route"] == "excluded_port"
    for who, where in ((front, outside), (back, f"127.0.0.1:{behind.web.port}")):
        with pytest.raises(Refused) as refused:
            tunnelled(who, where)
        assert refused.value.status == 502
    assert back.env["no_proxy"] == "localhost,127.0.0.1,::1,192.0.2.9,10.0.0.0/8"
    assert front.env["no_proxy"] == "localhost,127.0.0.1,::1"
    assert front.env["https_proxy"] == front.env["http_proxy"]
    assert "includeInboundPorts" in up.output


def test_with_allow_any_none_goes_everywhere(up: Up, front: Caller, behind: Behind) -> None:
    """Last: it opens the mesh."""
    up.remove("mesh.yaml")
    eventually(lambda: front.status(f"http://127.0.0.1:{behind.web.port}/") == 200)
    assert front.get(f"http://any.localhost:{behind.web.port}/").json()["backend"] == "web"
