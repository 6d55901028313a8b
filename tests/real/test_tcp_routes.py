"""Routes of connections: ``tcp`` and ``tls`` of VirtualServices, at gateways and in the mesh, on real Envoys."""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real.backend import Backend
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
    routes,
    server,
    service,
    to,
    within_bounds,
    workload,
)
from tests.real.traffic_credentials import Authority, secret, tls_data
from tests.real.tunnel import Refused, connect, exchange
from tests.real.up import Up

pytestmark = pytest.mark.real

VS = "VirtualService.spec."
TCP, TLS = VS + "tcp[].", VS + "tls[]."
EDGE = "gateway~shop~edge"
PLAIN, SUBNETS, WEIGHED, UNROUTED, NAMES, PORTS, ENDED, MUTUAL = 6001, 6002, 6003, 6004, 443, 8443, 9443, 9444
SHUT, OPENED = 6005, 6006
CLOSED = b""


def connections(name: str, hosts: list[str], gateways: list[str] | None = None, **routes_: Any) -> Manifest:
    spec: Manifest = {"hosts": hosts, **routes_}
    return manifest("VirtualService", name, spec if gateways is None else {**spec, "gateways": gateways})


def match(*names: str, **more: Any) -> Manifest:
    return {**({"sniHosts": list(names)} if names else {}), **more}


def way(*destinations: Manifest, when: list[Manifest] | None = None) -> Manifest:
    return {**({"match": when} if when else {}), "route": list(destinations)}


def services(behind: Behind) -> Iterator[Manifest]:
    for name, program, port_name in (
        *((echo.name, echo, "tcp") for echo in (behind.a, behind.b)),
        *((echo.name, echo, "tls") for echo in (behind.c, behind.d)),
    ):
        yield service(name, ports=[{"name": port_name, "port": 5000}])
        labels = {"app": name, "version": "v1"}
        yield workload(name, program.port, labels, ports={port_name: program.port}, serviceAccount=name)
    # Both programs of a sort, told apart by subsets and by ports.
    for sort, programs in (("tcp", (behind.a, behind.b)), ("tls", (behind.c, behind.d))):
        name = f"{sort}-both"
        first, second = ({"name": f"{sort}-{port}", "port": 5000 + port} for port in range(2))
        yield service(name, selector={"kind": name}, ports=[first])
        for version, program in zip(("v1", "v2"), programs, strict=True):
            labels = {"kind": name, "version": version}
            yield workload(f"{name}-{version}", program.port, labels, ports={f"{sort}-0": program.port})
        subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
        yield manifest("DestinationRule", name, {"host": name, "subsets": subsets})
        two = [{**first, "targetPort": programs[0].port}, {**second, "targetPort": programs[1].port}]
        yield service(f"{sort}-two", selector={"app": programs[1].name}, ports=[two[1], {**two[0], "targetPort": 1}])


def edge() -> Iterator[Manifest]:
    passed: Manifest = {"tls": {"mode": "PASSTHROUGH"}}
    ended: Manifest = {"tls": {"mode": "SIMPLE", "credentialName": "edge"}}
    mutual: Manifest = {"tls": {"mode": "MUTUAL", "credentialName": "edge"}}
    yield gateway(
        "edge",
        server(PLAIN, protocol="TCP"),
        server(SUBNETS, protocol="TCP", bind="127.0.0.7"),
        server(WEIGHED, protocol="TCP"),
        server(UNROUTED, protocol="TCP"),
        server(NAMES, "*.passed.example.com", "only.example.com", protocol="TLS", **passed),
        server(NAMES, "web.example.com", protocol="HTTPS", name="web", **ended),
        server(NAMES, "https.example.com", protocol="HTTPS", name="https-passed", **passed),
        server(PORTS, "*", protocol="TLS", **passed),
        server(ENDED, "db.example.com", protocol="TLS", **ended),
        server(MUTUAL, "db.example.com", protocol="TLS", name="mutual", **mutual),
    )


def edge_routes() -> Iterator[Manifest]:
    a, b, c, d = (to(name) for name in "abcd")
    yield connections(
        "plain",
        ["*"],
        ["edge"],
        tcp=[
            way(to("tcp-two", 5001), when=[match(port=PLAIN, gateways=["other"])]),
            way(a, when=[match(port=PLAIN)]),
            way(b, when=[match(port=SUBNETS, destinationSubnets=["127.0.0.7/32"])]),
            way(a, when=[match(port=SUBNETS, destinationSubnets=["127.0.0.8", "10.0.0.0/8"])]),
            way(
                to("tcp-both", subset="v1", weight=3), to("tcp-both", subset="v2", weight=1), when=[match(port=WEIGHED)]
            ),
            way(to("tcp-two", 5001), when=[match(port=MUTUAL)]),
            way(a, when=[match(port=ENDED)]),
        ],
    )
    yield connections(
        "named",
        ["*.passed.example.com", "https.example.com", "only.example.com"],
        ["edge", "other"],
        tls=[
            way(d, when=[match("d.passed.example.com", gateways=["other"])]),
            way(d, when=[match("d.passed.example.com", port=PORTS)]),
            way(c, when=[match("c.passed.example.com", "https.example.com"), match("*.deep.passed.example.com")]),
            way(d, when=[match("*.deep.passed.example.com", "e.passed.example.com")]),
            way(to("tls-both", subset="v2"), when=[match("subset.passed.example.com")]),
            way(
                to("tls-both", subset="v1", weight=3),
                to("tls-both", subset="v2", weight=1),
                when=[match("weighed.passed.example.com")],
            ),
            way(to("tls-two", 5001), when=[match("port.passed.example.com")]),
            way(c, when=[match("here.passed.example.com", destinationSubnets=["127.0.0.0/8"])]),
            way(c, when=[match("elsewhere.passed.example.com", destinationSubnets=["10.0.0.0/8"])]),
        ],
    )
    yield gateway("other", server(7001, protocol="TCP"))
    yield routes("web", ["web.example.com"], {"route": [to("web")]}, gateways=["edge"])


def policed() -> Iterator[Manifest]:
    """A Gateway whose policy closes connections, and one of its servers whose own does not."""
    servers = (server(SHUT, protocol="TCP", name="shut"), server(OPENED, protocol="TCP", name="opened"))
    yield gateway("policed", *servers, selector={"istio": "edge"})
    yield connections("policed", ["*"], ["policed"], tcp=[way(to("a"))])
    tokens = {"methods": [{"jwt": {"issuers": ["https://auth.example.com"]}}]}
    for name, where in (("all", {}), ("opened", {"sectionName": "opened"})):
        target = {"group": "networking.istio.io", "kind": "Gateway", "name": "policed", **where}
        spec = {"targetRefs": [target], "required": not where, **tokens}
        yield {**manifest("ClientAuthentication", name, spec), "apiVersion": "isthmus.dev/v1alpha1"}


def mesh_routes() -> Iterator[Manifest]:
    """Programs call ``guarded`` and ``secured``; who they are decides where that leads."""
    for name, port_name in (("guarded", "tcp"), ("secured", "tls")):
        ports = [{"name": port_name, "port": 5000}, {"name": f"{port_name}-z", "port": 5001}]
        yield service(name, selector={"app": "nobody"}, ports=ports)
    yield connections(
        "guarded",
        ["guarded"],
        tcp=[
            way(to("a"), when=[match(sourceLabels={"app": "front"}, port=5000)]),
            way(to("b"), when=[match(sourceNamespace="bank")]),
        ],
    )
    yield connections(
        "secured",
        ["secured", "named.internal"],
        tls=[
            way(to("c"), when=[match("named.internal", sourceLabels={"app": "front"})]),
            way(to("d"), when=[match("named.internal", sourceNamespace="bank")]),
        ],
    )


@dataclass(frozen=True)
class Behind:
    """``a`` and ``b`` speak plainly, ``c`` and ``d`` have TLS of their own."""

    a: Echo
    b: Echo
    c: Echo
    d: Echo
    web: Backend
    authority: Authority
    clients: Authority


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tcp-routes")


@pytest.fixture(scope="module")
def behind(folder: Path) -> Iterator[Behind]:
    authority = Authority("programs")
    contexts = []
    for name in "cd":
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.load_cert_chain(authority.certify(f"{name}.own").written(folder, name))
        contexts.append(own)
    with ExitStack() as running:
        echoes = [running.enter_context(Echo(name)) for name in "ab"]
        echoes += [running.enter_context(Echo(name, own)) for name, own in zip("cd", contexts, strict=True)]
        yield Behind(*echoes, running.enter_context(Backend("web")), authority, Authority("clients"))


@pytest.fixture(scope="module")
def up(folder: Path, behind: Behind) -> Iterator[Up]:
    pair = behind.authority.certify("db.example.com", "web.example.com")
    data = tls_data(pair, **{"ca.crt": behind.clients.pem})
    found = [
        manifest("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}}, "istio-system"),
        secret("edge", type="Opaque", data=data),
        *services(behind),
        service("web"),
        workload("web", behind.web.port, {"app": "web"}),
        *edge(),
        *edge_routes(),
        *policed(),
        *mesh_routes(),
        caller("front", folder, serviceAccount="front", labels={"app": "front"}),
        caller("back", folder, labels={"app": "back"}),
        caller("teller", folder, "bank", labels={"app": "teller"}),
    ]
    with Up(folder, {"all.yaml": dump(*found)}) as up:
        yield up


def dial(up: Up, port: int) -> socket.socket:
    return socket.create_connection(up.gateway(port), 20)


def plain(up: Up, port: int) -> bytes:
    with dial(up, port) as there:
        return exchange(there, b"hello\n")


def over_tls(there: socket.socket, context: ssl.SSLContext, name: str) -> tuple[bytes, str]:
    """What is echoed, and whose certificate answered; nothing if the connection is closed."""
    try:
        with context.wrap_socket(there, server_hostname=name) as secured:
            answered = exchange(secured, b"hello\n")
            (own,) = {value for key, value in (secured.getpeercert() or {}).get("subjectAltName", ()) if key == "DNS"}
            return answered, own
    except (ssl.SSLError, ConnectionError):
        return CLOSED, ""


def passed(up: Up, behind: Behind, name: str, port: int = NAMES) -> str:
    """Which program's own certificate and answer come back for a server name."""
    context = behind.authority.trusted()
    context.check_hostname = False
    with dial(up, port) as there:
        answered, own = over_tls(there, context, name)
    assert answered in (CLOSED, f"{own.partition('.')[0]}:hello\n".encode())
    return own


@enforces(
    TCP + "match[].port",
    TCP + "match[].gateways",
    TCP + "route[].destination.host",
    "Gateway.spec.servers[].port.protocol",
)
def test_tcp_at_a_gateway(up: Up) -> None:
    assert plain(up, PLAIN) == b"a:hello\n"
    assert plain(up, UNROUTED) == CLOSED
    line = logged(up, EDGE, hop="gateway", upstream_peer="spiffe://cluster.local/ns/shop/sa/a")
    assert line["self"] == "spiffe://cluster.local/ns/shop/sa/edge"
    assert logged(up, "sidecar~shop~a", peer="spiffe://cluster.local/ns/shop/sa/edge")


@enforces("ClientAuthentication.spec.required", "ClientAuthentication.spec.targetRefs[].sectionName")
def test_the_most_specific_policy_closes_a_server_or_does_not(up: Up) -> None:
    assert plain(up, SHUT) == CLOSED
    assert plain(up, OPENED) == b"a:hello\n"


@enforces(TCP + "match[].destinationSubnets")
def test_destination_subnets(up: Up) -> None:
    assert plain(up, SUBNETS) == b"b:hello\n"


@enforces(TCP + "route[].weight", TCP + "route[].destination.subset")
def test_weights_choose_for_the_connection(up: Up) -> None:
    found = Counter(plain(up, WEIGHED) for _ in range(200))
    assert within_bounds(found[b"a:hello\n"], 200, 0.75), found
    assert set(found) == {b"a:hello\n", b"b:hello\n"}
    with dial(up, WEIGHED) as there:
        assert len({exchange(there, b"hello\n") for _ in range(20)}) == 1


@enforces(TLS + "match[].sniHosts", TLS + "match[].port", TLS + "match[].gateways", TLS + "route[].destination.host")
def test_tls_is_passed_through_by_its_server_name(up: Up, behind: Behind) -> None:
    """The certificate is the program's own: nothing is decrypted on the way."""
    assert passed(up, behind, "c.passed.example.com") == "c.own"
    assert passed(up, behind, "https.example.com") == "c.own"
    assert passed(up, behind, "e.passed.example.com") == "d.own"
    assert passed(up, behind, "x.deep.passed.example.com") == "c.own", "the first route wins"
    assert passed(up, behind, "d.passed.example.com", PORTS) == "d.own"
    assert passed(up, behind, "c.passed.example.com", PORTS) == "c.own"


@enforces(
    TLS + "match[].destinationSubnets",
    *(TLS + f"route[].{field}" for field in ("destination.subset", "destination.port.number", "weight")),
)
def test_where_tls_goes(up: Up, behind: Behind) -> None:
    assert {passed(up, behind, "subset.passed.example.com") for _ in range(8)} == {"d.own"}
    assert passed(up, behind, "port.passed.example.com") == "d.own"
    assert passed(up, behind, "here.passed.example.com") == "c.own"
    assert passed(up, behind, "elsewhere.passed.example.com") == ""
    found = Counter(passed(up, behind, "weighed.passed.example.com") for _ in range(120))
    assert within_bounds(found["c.own"], 120, 0.75), found


@enforces("Gateway.spec.servers[].tls.mode", TLS + "match[].sniHosts")
def test_an_unknown_server_name_is_closed_and_logged(up: Up, behind: Behind) -> None:
    assert passed(up, behind, "stranger.example.org") == ""
    line = logged(up, EDGE, sni="stranger.example.org")
    assert (line["details"], line["response_flags"]) == ("filter_chain_not_found", "NR")
    # Names of a server for which no route is: it takes them, so that no wildcard beside it answers, and closes.
    for name in ("d.passed.example.com", "only.example.com"):
        assert passed(up, behind, name) == ""
        assert logged(up, EDGE, sni=name, response_flags="UH")


def test_https_beside_passthrough_on_one_port(up: Up, behind: Behind) -> None:
    with httpx.Client(verify=behind.authority.trusted(), trust_env=False, timeout=30) as client:
        assert up.send(client, "GET", "https://web.example.com/").json()["backend"] == "web"
        coalesced = up.send(client, "GET", "https://web.example.com/", headers={"host": "c.passed.example.com"})
        assert coalesced.status_code == 421, "another server's host"


@enforces(
    "Gateway.spec.servers[].tls.mode",
    TCP + "route[].destination.port.number",
    "Gateway.spec.servers[].tls.credentialName",
)
def test_tls_that_ends_at_the_gateway(up: Up, behind: Behind, folder: Path) -> None:
    trust = behind.authority.trusted()
    with dial(up, ENDED) as there, trust.wrap_socket(there, server_hostname="db.example.com") as secured:
        assert exchange(secured, b"hello\n") == b"a:hello\n"
        assert secured.selected_alpn_protocol() is None
    with dial(up, ENDED) as there:
        assert exchange(there, b"hello\n") == CLOSED, "plaintext"
    with dial(up, ENDED) as there:
        assert over_tls(there, trust, "other.example.com")[0] == CLOSED
    own = behind.clients.certify("client").written(folder, "client")
    known = behind.authority.trusted(own)
    with dial(up, MUTUAL) as there, known.wrap_socket(there, server_hostname="db.example.com") as secured:
        assert exchange(secured, b"hello\n") == b"b:hello\n"
    with dial(up, MUTUAL) as there:
        assert over_tls(there, trust, "db.example.com")[0] == CLOSED, "no client certificate"


def tunnelled(up: Up, folder: Path, who: str, authority: str, namespace: str = "shop") -> bytes:
    try:
        with connect(Caller(who, folder, namespace).env["http_proxy"], authority) as there:
            return exchange(there, b"hello\n")
    except Refused:
        return CLOSED


@enforces(TCP + "match[].sourceLabels", TCP + "match[].sourceNamespace", TCP + "match[].port")
def test_tcp_in_the_mesh(up: Up, folder: Path) -> None:
    guarded = "guarded.shop.svc.cluster.local"
    assert tunnelled(up, folder, "front", f"{guarded}:5000") == b"a:hello\n"
    assert tunnelled(up, folder, "teller", f"{guarded}:5000", "bank") == b"b:hello\n"
    assert tunnelled(up, folder, "back", f"{guarded}:5000") == CLOSED
    assert tunnelled(up, folder, "front", f"{guarded}:5001") == CLOSED


def named(up: Up, behind: Behind, folder: Path, who: str, namespace: str = "shop", name: str = "named.internal") -> str:
    context = behind.authority.trusted()
    context.check_hostname = False
    with connect(Caller(who, folder, namespace).env["http_proxy"], "named.internal:443") as there:
        return over_tls(there, context, name)[1]


@enforces(TLS + "match[].sourceLabels", TLS + "match[].sourceNamespace", TLS + "match[].sniHosts")
def test_tls_in_the_mesh(up: Up, behind: Behind, folder: Path) -> None:
    assert named(up, behind, folder, "front") == "c.own"
    assert named(up, behind, folder, "teller", "bank") == "d.own"
    assert named(up, behind, folder, "front", name="other.internal") == ""
