"""Every match of a VirtualService, with requests that it takes and requests that it leaves, on real Envoys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.traffic import Caller, caller, dump, gateway, routes, server, service, to, workload
from tests.real.up import Up

pytestmark = pytest.mark.real

MATCH = "VirtualService.spec.http[].match[]."


@dataclass(frozen=True, slots=True)
class Ask:
    path: str = "/"
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    scheme: str = "http"
    port: int = 80
    sub: str = ""
    """Before the case's own host."""


@dataclass(frozen=True, slots=True)
class Case:
    fields: tuple[str, ...]
    match: dict[str, Any]
    takes: tuple[Ask, ...]
    leaves: tuple[Ask, ...]


def of(name: str, match: dict[str, Any], takes: tuple[Ask, ...], leaves: tuple[Ask, ...]) -> Case:
    return Case((name,), match, takes, leaves)


def paths(*written: str) -> tuple[Ask, ...]:
    return tuple(Ask(path) for path in written)


def methods(*written: str) -> tuple[Ask, ...]:
    return tuple(Ask(method=method) for method in written)


def teams(*values: str | None) -> tuple[Ask, ...]:
    return tuple(Ask(headers={} if value is None else {"x-team": value}) for value in values)


def subs(*written: str) -> tuple[Ask, ...]:
    return tuple(Ask(sub=sub) for sub in written)


_SECURED = Ask(scheme="https", port=443)

CASES = (
    of("uri.exact", {"uri": {"exact": "/a"}}, paths("/a", "/a?q=1", "/x/../a"), paths("/a/", "/ab", "/A", "/")),
    of("uri.prefix", {"uri": {"prefix": "/a"}}, paths("/a", "/a/b", "/ab", "/a?q"), paths("/b", "/A", "/b/a")),
    of("uri.prefix", {"uri": {"prefix": "/a/"}}, paths("/a/", "/a/b", "//a//b"), paths("/a", "/ab", "/a/../b")),
    of("uri.regex", {"uri": {"regex": "/v[0-9]+/x"}}, paths("/v1/x", "/v22/x?y=1"), paths("/v/x", "/v1/xy", "/p/v1/x")),
    of("ignoreUriCase", {"uri": {"exact": "/Ab"}, "ignoreUriCase": True}, paths("/aB", "/Ab"), paths("/abc",)),
    of("ignoreUriCase", {"uri": {"prefix": "/Ab"}, "ignoreUriCase": True}, paths("/ab/c", "/AB"), paths("/a",)),
    of("ignoreUriCase", {"uri": {"regex": "/Ab+"}, "ignoreUriCase": True}, paths("/abb", "/AB"), paths("/a",)),
    of("ignoreUriCase", {"uri": {"prefix": "/Ab"}, "ignoreUriCase": False}, paths("/Ab",), paths("/ab", "/AB")),
    of("method.exact", {"method": {"exact": "GET"}}, methods("GET"), methods("POST", "HEAD", "PUT")),
    of("method.prefix", {"method": {"prefix": "P"}}, methods("POST", "PUT", "PATCH"), methods("GET", "OPTIONS")),
    of("method.regex", {"method": {"regex": "GET|HEAD"}}, methods("GET", "HEAD"), methods("POST", "DELETE")),
    of("headers.*.exact", {"headers": {"x-team": {"exact": "a"}}}, teams("a"), teams(None, "ab", "A", "a,b")),
    of("headers.*.exact", {"headers": {"X-Team": {"exact": "a"}}}, teams("a"), teams(None, "b")),
    of("headers.*.prefix", {"headers": {"x-team": {"prefix": "a"}}}, teams("a", "abc"), teams(None, "ba")),
    of("headers.*.regex", {"headers": {"x-team": {"regex": "a.*z"}}}, teams("az", "abcz"), teams(None, "az1", "0az")),
    of("headers.*.regex", {"headers": {"x-team": {"regex": "*"}}}, teams("a", "b"), teams(None)),
    of("headers.*.exact", {"headers": {"x-team": {}}}, teams("a", "b"), teams(None)),
    of("withoutHeaders.*.exact", {"withoutHeaders": {"x-team": {"exact": "a"}}}, teams(None, "b"), teams("a")),
    of("withoutHeaders.*.prefix", {"withoutHeaders": {"x-team": {"prefix": "a"}}}, teams(None, "b"), teams("a", "ab")),
    of("withoutHeaders.*.regex", {"withoutHeaders": {"x-team": {"regex": "a+"}}}, teams(None, "ab"), teams("a", "aa")),
    of("withoutHeaders.*.exact", {"withoutHeaders": {"x-team": {}}}, teams(None), teams("a", "b")),
    of("queryParams.*.exact", {"queryParams": {"q": {"exact": "1"}}}, paths("/?q=1", "/x?a&q=1"), paths("/", "/?q=12")),
    of("queryParams.*.prefix", {"queryParams": {"q": {"prefix": "1"}}}, paths("/?q=1", "/?q=12"), paths("/?q=2")),
    of("queryParams.*.regex", {"queryParams": {"q": {"regex": "[0-9]+"}}}, paths("/?q=12"), paths("/?q=1a", "/?p=1")),
    of("queryParams.*.exact", {"queryParams": {"q": {}}}, paths("/?q=1", "/?q"), paths("/", "/?p=1")),
    of("authority.exact", {"authority": {"exact": "a.HOST"}}, subs("a."), subs("b.", "aa.")),
    of("authority.prefix", {"authority": {"prefix": "a"}}, subs("a.", "ab."), subs("b.", "ba.")),
    of("authority.regex", {"authority": {"regex": r"[ab]\..*"}}, subs("a.", "b."), subs("c.", "ab.")),
    of("scheme.exact", {"scheme": {"exact": "https"}}, (_SECURED,), (Ask(),)),
    of("scheme.prefix", {"scheme": {"prefix": "https"}}, (_SECURED,), (Ask(),)),
    of("scheme.regex", {"scheme": {"regex": "http"}}, (Ask(),), (_SECURED,)),
    of("port", {"port": 8080}, (Ask(port=8080),), (Ask(), _SECURED)),
    of("gateways", {"gateways": ["second"]}, (Ask(port=9090),), (Ask(), Ask(port=8080))),
    of("gateways", {"gateways": ["shop/edge"]}, (Ask(),), (Ask(port=9090),)),
    Case(
        ("uri.prefix", "method.exact", "headers.*.exact", "queryParams.*.exact"),
        {
            "uri": {"prefix": "/a"},
            "method": {"exact": "POST"},
            "headers": {"x-team": {"exact": "a"}},
            "queryParams": {"q": {"exact": "1"}},
        },
        (Ask("/a?q=1", "POST", {"x-team": "a"}),),
        (
            Ask("/b?q=1", "POST", {"x-team": "a"}),
            Ask("/a?q=1", "GET", {"x-team": "a"}),
            Ask("/a?q=1", "POST", {"x-team": "b"}),
            Ask("/a?q=2", "POST", {"x-team": "a"}),
        ),
    ),
)  # fmt: skip


def host(index: int) -> str:
    return f"m{index}.example.com"


def manifests(port: int, folder: Path) -> str:
    """Each case has a host of its own; what its match leaves is not found."""
    hosts = ["*"]
    edge = gateway(
        "edge",
        server(80, *hosts),
        server(8080, *hosts),
        server(443, "*.example.com", protocol="HTTPS", tls={"mode": "SIMPLE", "credentialName": "edge"}),
    )
    found = [edge, gateway("second", server(9090, *hosts))]
    for index, case in enumerate(CASES):
        match = {
            name: {how: value.replace("HOST", host(index)) for how, value in written.items()}
            if name == "authority"
            else written
            for name, written in case.match.items()
        }
        route = {"match": [match], "route": [to("web")]}
        found.append(routes(f"m{index}", [host(index), f"*.{host(index)}"], route, gateways=["edge", "second"]))
    two = {
        "match": [{"uri": {"exact": "/a"}}, {"uri": {"exact": "/b"}, "method": {"exact": "POST"}}],
        "route": [to("web")],
    }
    first = {
        "match": [{"uri": {"prefix": "/a"}}],
        "route": [to("web")],
        "headers": {"response": {"set": {"x-route": "1"}}},
    }
    last = {"route": [to("web")], "headers": {"response": {"set": {"x-route": "2"}}}}
    found += [
        routes("either", ["either.example.com"], two, gateways=["edge"]),
        routes("order", ["order.example.com"], first, last, gateways=["edge"]),
        service("web"),
        workload("web-1", port, {"app": "web"}),
        *in_the_mesh(folder),
    ]
    return dump(*found)


def in_the_mesh(folder: Path) -> Iterator[dict[str, Any]]:
    """Services in front of the same workload, whose routes ask who calls, and callers."""
    matches = {
        "by-labels": {"sourceLabels": {"tier": "front", "team": "blue"}},
        "by-namespace": {"sourceNamespace": "shop"},
        "by-port": {"port": 8081},
        "by-gateway": {"gateways": ["mesh"]},
    }
    ports = [
        {"name": "http", "port": 80, "targetPort": "http"},
        {"name": "http-more", "port": 8081, "targetPort": "http"},
    ]
    for name, match in matches.items():
        yield service(name, selector={"app": "web"}, ports=ports)
        yield routes(
            name, [name, f"{name}.example.com"], {"match": [match], "route": [to(name, 80)]}, gateways=["mesh", "edge"]
        )
    yield caller("front", folder, labels={"tier": "front", "team": "blue", "more": "yes"})
    yield caller("back", folder, labels={"tier": "back", "team": "blue"})
    yield caller("front", folder, namespace="bank", labels={"tier": "front", "team": "blue"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matches")


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Up]:
    with Backend() as backend, Up(folder, {"all.yaml": manifests(backend.port, folder)}) as running:
        yield running


@pytest.fixture(scope="module")
def client(up: Up) -> Iterator[httpx.Client]:
    with up.client() as client:
        yield client


@pytest.fixture(scope="module")
def callers(up: Up, folder: Path) -> dict[str, Caller]:
    return {
        "front": Caller("front", folder),
        "back": Caller("back", folder),
        "bank": Caller("front", folder, namespace="bank"),
    }


def status(up: Up, client: httpx.Client, index: int, ask: Ask) -> int:
    name = f"{ask.sub}{host(index)}"
    url = f"{ask.scheme}://{name}:{ask.port}{ask.path}"
    return up.send(client, ask.method, url, headers={"host": name, **ask.headers}).status_code


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(index, id=f"{case.fields[0]}-{index}", marks=enforces(*(MATCH + name for name in case.fields)))
        for index, case in enumerate(CASES)
    ],
)
def test_match(up: Up, client: httpx.Client, index: int) -> None:
    case = CASES[index]
    wrong = [(ask, 404) for ask in case.leaves if status(up, client, index, ask) != 404]
    wrong += [(ask, 200) for ask in case.takes if status(up, client, index, ask) != 200]
    assert not wrong


def test_one_of_several_matches_is_enough(up: Up, client: httpx.Client) -> None:
    def answer(method: str, path: str) -> int:
        return up.send(client, method, f"http://either.example.com{path}").status_code

    assert (answer("GET", "/a"), answer("POST", "/b"), answer("POST", "/a")) == (200, 200, 200)
    assert (answer("GET", "/b"), answer("GET", "/c")) == (404, 404)


def test_first_route_that_matches_wins(up: Up, client: httpx.Client) -> None:
    taken = [up.send(client, "GET", f"http://order.example.com{path}").headers["x-route"] for path in ("/a/1", "/b")]
    assert taken == ["1", "2"]


@enforces(MATCH + "sourceLabels")
def test_source_labels(callers: dict[str, Caller]) -> None:
    url = "http://by-labels.shop.svc.cluster.local/"
    assert {name: who.status(url) for name, who in callers.items()} == {"front": 200, "back": 404, "bank": 200}


@enforces(MATCH + "sourceNamespace")
def test_source_namespace(callers: dict[str, Caller]) -> None:
    url = "http://by-namespace.shop.svc.cluster.local/"
    assert {name: who.status(url) for name, who in callers.items()} == {"front": 200, "back": 200, "bank": 404}


@enforces(MATCH + "port")
def test_port_of_the_service(callers: dict[str, Caller]) -> None:
    url = "http://by-port.shop.svc.cluster.local"
    assert callers["front"].status(f"{url}:8081/") == 200
    assert callers["front"].status(f"{url}/") == 404


@enforces(MATCH + "gateways")
def test_gateway_mesh_is_the_callers(up: Up, client: httpx.Client, callers: dict[str, Caller]) -> None:
    assert callers["front"].status("http://by-gateway.shop.svc.cluster.local/") == 200
    assert up.send(client, "GET", "http://by-gateway.example.com/").status_code == 404


@enforces(MATCH + "sourceLabels", MATCH + "sourceNamespace")
@pytest.mark.parametrize("name", ["by-labels", "by-namespace"])
def test_who_calls_is_not_asked_at_a_gateway(up: Up, client: httpx.Client, name: str) -> None:
    """In Istio, too, these apply to calls inside the mesh only."""
    assert up.send(client, "GET", f"http://{name}.example.com/").status_code == 200
