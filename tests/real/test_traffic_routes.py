"""What a VirtualService does with a request: destinations, weights, rewrites, redirects, headers, on real Envoys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real.backend import Backend, header
from tests.real.fields import enforces
from tests.real.traffic import (
    Caller,
    Manifest,
    Obedient,
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
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

SPEC = "VirtualService.spec."
HTTP = SPEC + "http[]."
ROUTE = HTTP + "route[]."
SUBSETS = "DestinationRule.spec.subsets[]."

TABLES: dict[str, list[Manifest]] = {
    # Weights are relative to each other.
    "weights": [{"route": [to("web", subset="v1", weight=30), to("web", subset="v2", weight=10)]}],
    "no-weight": [{"route": [to("web", subset="v1"), to("web", subset="v2", weight=10)]}],
    "subset": [{"route": [to("web", subset="v2")]}],
    "unknown-subset": [{"route": [to("web", subset="v3")]}],
    "unknown-service": [{"route": [to("nobody")]}],
    "port": [
        {"match": [{"uri": {"prefix": "/second"}}], "route": [to("ports", 81)]},
        {"match": [{"uri": {"prefix": "/third"}}], "route": [to("ports", 82)]},
        {"route": [to("ports", 80)]},
    ],
    "full-name": [{"route": [to("web.bank.svc.cluster.local")]}],
    "prefix": [{"match": [{"uri": {"prefix": "/old/"}}], "rewrite": {"uri": "/new/"}, "route": [to("web")]}],
    "exact": [{"match": [{"uri": {"exact": "/old"}}], "rewrite": {"uri": "/new"}, "route": [to("web")]}],
    "regex": [{"match": [{"uri": {"regex": "/old/.*"}}], "rewrite": {"uri": "/new"}, "route": [to("web")]}],
    "by-regex": [
        {
            "rewrite": {"uriRegexRewrite": {"match": "^/users/([^/]+)/(.*)$", "rewrite": r"/\2/of/\1"}},
            "route": [to("web")],
        }
    ],
    "authority": [{"rewrite": {"authority": "inside.example.com"}, "route": [to("web")]}],
    "not-rewritten": [{"route": [to("web")]}],
    "named": [
        {"match": [{"uri": {"prefix": "/named"}}], "name": "by-name", "route": [to("web")]},
        {"route": [to("web")]},
    ],
}

OPERATIONS: Manifest = {
    "request": {"set": {"x-set": "ours", "host": "set.example.com"}, "add": {"x-add": "ours"}, "remove": ["x-gone"]},
    "response": {"set": {"x-set": "ours"}, "add": {"x-backend": "ours"}, "remove": ["x-removable"]},
}
TABLES |= {
    "headers": [{"headers": OPERATIONS, "route": [to("web")]}],
    "headers-of-one": [{"route": [to("web", headers=OPERATIONS)]}],
    "headers-of-each": [
        {
            "headers": {"response": {"set": {"x-route": "all"}}},
            "route": [
                to("web", subset="v1", weight=50, headers=OPERATIONS),
                to("web", subset="v2", weight=50),
            ],
        }
    ],
}

REDIRECTS: dict[str, tuple[tuple[str, ...], Manifest, int, str]] = {
    "uri": (("uri",), {"uri": "/new"}, 301, "http://HOST:PORT/new?q=1"),
    "host": (("authority",), {"authority": "other.example.com"}, 301, "http://other.example.com/old?q=1"),
    "scheme": (("scheme",), {"scheme": "https", "authority": "s.example.com"}, 301, "https://s.example.com/old?q=1"),
    "to-port": (("port",), {"port": 8443}, 301, "http://HOST:8443/old?q=1"),
    "request-port": (
        ("derivePort",),
        {"derivePort": "FROM_REQUEST_PORT", "authority": "p.example.com"},
        301,
        "http://p.example.com:PORT/old?q=1",
    ),
    "default-port": (
        ("derivePort", "scheme"),
        {"derivePort": "FROM_PROTOCOL_DEFAULT", "scheme": "https"},
        301,
        "https://HOST:443/old?q=1",
    ),
    "plain-default-port": (("derivePort",), {"derivePort": "FROM_PROTOCOL_DEFAULT"}, 301, "http://HOST:80/old?q=1"),
    **{
        f"code-{code}": (("redirectCode",), {"uri": "/new", "redirectCode": code}, code, "http://HOST:PORT/new?q=1")
        for code in (302, 303, 307, 308)
    },
}


def host(name: str) -> str:
    return f"{name}.example.com"


def manifests(first: Backend, second: Backend, folder: Path) -> str:
    ports = [
        {"name": "http", "port": 80, "targetPort": first.port},
        {"name": "http-second", "port": 81, "targetPort": second.port},
    ]
    found = [
        gateway("edge", server(80)),
        gateway("side", server(8080)),
        *(routes(name, [host(name)], *http, gateways=["edge"]) for name, http in TABLES.items()),
        *(
            routes(f"to-{name}", [host(f"to-{name}")], {"redirect": redirect}, gateways=["edge"])
            for name, (_, redirect, _, _) in REDIRECTS.items()
        ),
        service("web"),
        workload("web-1", first.port, {"app": "web", "version": "v1"}),
        workload("web-2", second.port, {"app": "web", "version": "v2"}),
        manifest(
            "DestinationRule",
            "web",
            {
                "host": "web",
                "subsets": [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")],
            },
        ),
        service("ports", selector={"app": "ports"}, ports=ports),
        manifest("WorkloadEntry", "ports-1", {"address": "127.0.0.1", "labels": {"app": "ports"}}),
        # Another web, in another namespace: a short name is one of the rule's namespace.
        service("web", "bank"),
        workload("web-1", second.port, {"app": "web"}, "bank"),
        routes("short", [host("short")], {"route": [to("web")]}, gateways=["shop/edge"], namespace="bank"),
        *bindings(),
        caller("front", folder),
    ]
    return dump(*found)


def bindings() -> Iterator[Manifest]:
    """VirtualServices whose hosts and gateways are what counts; ``x-table`` tells which one answers."""

    def bound(name: str, *hosts: str, gateways: list[str] | None = None) -> Manifest:
        http = {"headers": {"response": {"set": {"x-table": name}}}, "route": [to("web")]}
        return routes(name, list(hosts), http, gateways=gateways)

    yield bound("wild", "*.wild.example.com", gateways=["edge"])
    yield bound("narrow", "a.wild.example.com", gateways=["edge"])
    yield bound("two", "one.example.com", "two.example.com", gateways=["edge"])
    yield bound("other-gateway", "side.example.com", gateways=["side"])
    yield bound("both", "both.example.com", "both", gateways=["edge", "mesh"])
    yield bound("mesh-only", "meshed.example.com", "meshed")
    yield service("both", selector={"app": "web"})
    yield service("meshed", selector={"app": "web"})
    yield service("plain", selector={"app": "web"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("routes")


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Up]:
    obedient = Obedient()
    with (
        Backend("v1", obedient) as first,
        Backend("v2", obedient) as second,
        Up(folder, {"all.yaml": manifests(first, second, folder)}) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def client(up: Up) -> Iterator[httpx.Client]:
    with up.client() as client:
        yield client


@pytest.fixture(scope="module")
def front(up: Up, folder: Path) -> Caller:
    return Caller("front", folder)


def ask(up: Up, client: httpx.Client, name: str, path: str = "/", **options: Any) -> httpx.Response:
    return up.send(client, "GET", f"http://{host(name)}{path}", **options)


@enforces(ROUTE + "weight")
def test_weights_are_shares(up: Up, client: httpx.Client) -> None:
    answered = Counter(ask(up, client, "weights").headers["x-backend"] for _ in range(800))
    assert sum(answered.values()) == 800
    assert within_bounds(answered["v1"], 800, 0.75), answered


@enforces(ROUTE + "weight")
def test_destination_without_a_weight_gets_nothing(up: Up, client: httpx.Client) -> None:
    assert {ask(up, client, "no-weight").headers["x-backend"] for _ in range(60)} == {"v2"}


@enforces(ROUTE + "destination.subset", SUBSETS + "name", SUBSETS + "labels", "DestinationRule.spec.host")
def test_subset(up: Up, client: httpx.Client) -> None:
    assert {ask(up, client, "subset").headers["x-backend"] for _ in range(30)} == {"v2"}
    assert {ask(up, client, "not-rewritten").headers["x-backend"] for _ in range(60)} == {"v1", "v2"}
    assert ask(up, client, "unknown-subset").status_code == 503
    assert 'subset of web.shop.svc.cluster.local named "v3"' in up.output


@enforces(ROUTE + "destination.port.number")
def test_port_of_a_destination(up: Up, client: httpx.Client) -> None:
    found = [ask(up, client, "port", path) for path in ("/", "/second")]
    assert [answer.headers["x-backend"] for answer in found] == ["v1", "v2"]
    assert ask(up, client, "port", "/third").status_code == 503


@enforces(ROUTE + "destination.host")
def test_host_of_a_destination(up: Up, client: httpx.Client) -> None:
    """A short name is a service of the VirtualService's own namespace."""
    assert {ask(up, client, "short").headers["x-backend"] for _ in range(20)} == {"v2"}
    assert {ask(up, client, "full-name").headers["x-backend"] for _ in range(20)} == {"v2"}
    assert ask(up, client, "unknown-service").status_code == 503
    assert 'no service named "nobody"' in up.output


@enforces(SPEC + "hosts")
def test_hosts(up: Up, client: httpx.Client) -> None:
    tables = ("a.wild", "b.wild", "c.b.wild", "one", "two")
    found = [ask(up, client, name).headers.get("x-table") for name in tables]
    assert found == ["narrow", "wild", "wild", "two", "two"]
    assert ask(up, client, "wild").status_code == 404
    assert ask(up, client, "three").status_code == 404
    assert ask(up, client, "ONE", headers={"host": "ONE.example.com"}).headers["x-table"] == "two"


@enforces(SPEC + "gateways")
def test_gateways(up: Up, client: httpx.Client, front: Caller) -> None:
    assert up.send(client, "GET", "http://side.example.com:8080/").headers["x-table"] == "other-gateway"
    assert ask(up, client, "side").status_code == 404
    assert ask(up, client, "both").headers["x-table"] == "both"
    assert ask(up, client, "meshed").status_code == 404
    tables = {name: front.get(f"http://{name}.shop.svc.cluster.local/") for name in ("both", "meshed", "plain")}
    assert {name: answer.status_code for name, answer in tables.items()} == dict.fromkeys(tables, 200)
    assert {name: answer.headers.get("x-table") for name, answer in tables.items()} == {
        "both": "both",
        "meshed": "mesh-only",
        "plain": None,
    }


@enforces(SPEC + "hosts")
@pytest.mark.parametrize("name", ["meshed", "meshed.shop", "meshed.shop.svc", "meshed.shop.svc.cluster.local"])
def test_every_name_of_a_service_has_its_routes(front: Caller, name: str) -> None:
    assert front.get(f"http://{name}/").headers["x-table"] == "mesh-only"


@enforces(HTTP + "rewrite.uri")
@pytest.mark.parametrize(
    ("table", "path", "seen"),
    [
        ("prefix", "/old/a?q=1", "/new/a?q=1"),
        ("exact", "/old?q=1", "/new?q=1"),
        ("regex", "/old/a/b?q=1", "/new?q=1"),
        ("not-rewritten", "/old/a?q=1", "/old/a?q=1"),
    ],
)
def test_rewritten_path(up: Up, client: httpx.Client, table: str, path: str, seen: str) -> None:
    assert ask(up, client, table, path).json()["path"] == seen


@enforces(HTTP + "rewrite.uriRegexRewrite.match", HTTP + "rewrite.uriRegexRewrite.rewrite")
@pytest.mark.parametrize(
    ("path", "seen"), [("/users/7/orders?q=1", "/orders/of/7?q=1"), ("/groups/7/orders", "/groups/7/orders")]
)
def test_path_rewritten_by_regex(up: Up, client: httpx.Client, path: str, seen: str) -> None:
    assert ask(up, client, "by-regex", path).json()["path"] == seen


@enforces(HTTP + "rewrite.authority")
def test_rewritten_authority(up: Up, client: httpx.Client) -> None:
    asked = {"host": "authority.example.com"}
    assert header(ask(up, client, "authority", headers=asked).json(), "host") == "inside.example.com"
    plain = {"host": "not-rewritten.example.com"}
    assert header(ask(up, client, "not-rewritten", headers=plain).json(), "host") == "not-rewritten.example.com"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=enforces(*(f"{HTTP}redirect.{field}" for field in case[0])))
        for name, case in REDIRECTS.items()
    ],
)
def test_redirect(up: Up, client: httpx.Client, name: str) -> None:
    _, _, status, location = REDIRECTS[name]
    answer = ask(up, client, f"to-{name}", "/old?q=1")
    wanted = location.replace("HOST", host(f"to-{name}")).replace("PORT", str(up.gateway(80)[1]))
    assert (answer.status_code, answer.headers["location"]) == (status, wanted)


_SENT = {"x-set": "theirs", "x-add": "theirs", "x-gone": "yes", "x-stays": "yes"}


def operated(answer: httpx.Response) -> dict[str, Any]:
    """What became of the headers that ``OPERATIONS`` is about."""
    saw = answer.json()
    request = {name: header(saw, name) for name in ("x-set", "x-add", "x-gone", "x-stays", "host")}
    response = {name: answer.headers.get_list(name) for name in ("x-set", "x-backend", "x-removable")}
    return {"request": request, "response": response}


def unchanged(asked: str, backend: str) -> dict[str, Any]:
    return {
        "request": {**_SENT, "host": asked},
        "response": {"x-set": ["by backend"], "x-backend": [backend], "x-removable": ["yes"]},
    }


def changed(backend: str) -> dict[str, Any]:
    return {
        "request": {
            "x-set": "ours",
            "x-add": "theirs, ours",
            "x-gone": None,
            "x-stays": "yes",
            "host": "set.example.com",
        },
        "response": {"x-set": ["ours"], "x-backend": [backend, "ours"], "x-removable": []},
    }


_ALL = tuple(f"headers.{side}.{what}" for side in ("request", "response") for what in ("set", "add", "remove"))


@enforces(*(HTTP + name for name in _ALL))
def test_headers_of_a_route(up: Up, client: httpx.Client) -> None:
    answer = ask(up, client, "headers", headers=_SENT)
    assert operated(answer) == changed(answer.json()["backend"])
    plain = ask(up, client, "not-rewritten", headers={**_SENT, "host": "not-rewritten.example.com"})
    assert operated(plain) == unchanged("not-rewritten.example.com", plain.json()["backend"])


@enforces(*(ROUTE + name for name in _ALL))
def test_headers_of_the_only_destination(up: Up, client: httpx.Client) -> None:
    answer = ask(up, client, "headers-of-one", headers=_SENT)
    assert operated(answer) == changed(answer.json()["backend"])


@enforces(*(ROUTE + name for name in _ALL))
def test_headers_of_one_destination_among_several(up: Up, client: httpx.Client) -> None:
    asked = {**_SENT, "host": "headers-of-each.example.com"}
    answers = [ask(up, client, "headers-of-each", headers=asked) for _ in range(40)]
    by_backend = {answer.json()["backend"]: operated(answer) for answer in answers}
    assert by_backend == {"v1": changed("v1"), "v2": unchanged("headers-of-each.example.com", "v2")}
    assert {answer.headers["x-route"] for answer in answers} == {"all"}


@enforces(HTTP + "name")
def test_name_stands_in_the_access_log(up: Up, client: httpx.Client) -> None:
    ask(up, client, "named", "/named/once")
    ask(up, client, "named", "/unnamed/once")

    def logged(path: str) -> str | None:
        lines = up.access_log("gateway~shop~edge")
        return next((line["route"] for line in lines if line["path"] == path), None)

    assert eventually(lambda: logged("/named/once")) == "by-name"
    assert eventually(lambda: logged("/unnamed/once")) == "shop/named/http[1]"
