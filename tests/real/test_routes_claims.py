"""Routes by claims of the verified token, at a gateway and at a program's own proxy, on real Envoys."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real.backend import Backend, header
from tests.real.fields import enforces
from tests.real.fields_peer import bearer
from tests.real.traffic import Caller, Manifest, caller, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.up import Up, development_jwks, eventually

pytestmark = pytest.mark.real

MATCH = "VirtualService.spec.http[].match[]."
ISSUER, STRANGER = "https://auth.example.com", "https://stranger.example.com"
CLAIM = "@request.auth.claims"


@dataclass(frozen=True, slots=True)
class Case:
    """``claim``: what is written after the common beginning. ``takes`` and ``leaves``: claims of tokens."""

    claim: str
    match: dict[str, Any]
    takes: tuple[dict[str, Any], ...]
    leaves: tuple[dict[str, Any], ...]
    without: bool = False

    @property
    def field(self) -> str:
        return "withoutHeaders" if self.without else "headers"

    @property
    def shows(self) -> str:
        return f"{MATCH}{self.field}.*.{next(iter(self.match), 'exact')}"


def of(claim: str, match: dict[str, Any], takes: tuple[Any, ...], leaves: tuple[Any, ...]) -> Case:
    return Case(claim, match, takes, leaves)


def without(claim: str, match: dict[str, Any], takes: tuple[Any, ...], leaves: tuple[Any, ...]) -> Case:
    return Case(claim, match, takes, leaves, without=True)


def groups(*values: Any) -> tuple[dict[str, Any], ...]:
    return tuple({"group": value} for value in values)


CASES = (
    of(".group", {"exact": "beta"}, groups("beta", ["alpha", "beta"]), (*groups("betas", "Beta", ["alpha"], []), {})),
    of("[group]", {"prefix": "be"}, groups("beta", ["x", "bee"]), groups("a-be", ["xbe"])),
    of(".group", {"regex": "b.*a"}, groups("beta", ["x", "ba"]), groups("beta1", ["xba"])),
    of(".group", {}, groups("beta", ["beta"], 7, False), ({}, {"groups": "beta"})),
    of(".realm.name", {"exact": "eu"}, ({"realm": {"name": "eu"}},), ({"realm": "eu"}, {"realm": {"names": "eu"}})),
    of("[realm][roles]", {"exact": "x"}, ({"realm": {"roles": ["a", "x"]}},), ({"realm": {"roles": ["a"]}},)),
    of("[https://example.com/tier]", {"exact": "1"}, ({"https://example.com/tier": "1"},), ({"tier": "1"},)),
    of(".admin", {"exact": "true"}, ({"admin": True}, {"admin": "true"}), ({"admin": False}, {"admin": 1}, {})),
    of(".level", {"exact": "42"}, ({"level": 42}, {"level": "42"}, {"level": [1, 42]}), ({"level": 4}, {"level": 420})),
    of(".level", {"exact": "1.5"}, ({"level": 1.5},), ({"level": 1},)),
    of(".scope", {"exact": "orders:read"}, ({"scope": "users:read orders:read"},), ({"scope": "orders:readall"},)),
    without(".group", {"exact": "beta"}, (*groups("alpha", ["alpha"]), {}), groups("beta", ["alpha", "beta"])),
    without("[group]", {}, ({}, {"groups": "beta"}), groups("beta", ["beta"])),
    without(".blocked", {"exact": "true"}, ({}, {"blocked": False}), ({"blocked": True}, {"blocked": "true"})),
    without(".group", {"prefix": "be"}, groups("alpha"), groups("beta")),
    without(".group", {"regex": "b.*"}, groups("alpha"), groups("beta")),
)  # fmt: skip


def host(index: int) -> str:
    return f"c{index}.example.com"


def named(table: str) -> Manifest:
    return {"headers": {"response": {"set": {"x-table": table}}}, "route": [to("web")]}


def by_claim(name: str, hosts: list[str], match: Manifest, gateways: list[str]) -> Manifest:
    return routes(name, hosts, {"match": [match], **named("claim")}, named("rest"), gateways=gateways)


def tables() -> Iterator[Manifest]:
    for index, case in enumerate(CASES):
        match = {case.field: {CLAIM + case.claim: case.match}}
        yield by_claim(f"c{index}", [host(index)], match, ["edge", "bare"])
    beta = {"headers": {f"{CLAIM}.group": {"exact": "beta"}}}
    both = {**beta, "uri": {"prefix": "/beta"}, "method": {"exact": "POST"}}
    yield by_claim("both", ["both.example.com"], both, ["edge"])
    yield by_claim("meshed", ["meshed"], beta, ["mesh"])
    for name in ("meshed", "web"):
        yield service(name, selector={"app": "web"})


def manifests(port: int, jwks: str, folder: Path) -> str:
    rule = {"issuer": ISSUER, "jwks": jwks, "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}]}
    of_gateway = {"selector": {"matchLabels": {"istio": "edge"}}, "jwtRules": [{**rule, "forwardOriginalToken": True}]}
    of_front = {"selector": {"matchLabels": {"app": "front"}}, "jwtRules": [rule]}
    return dump(
        gateway("edge", server(80)),
        # The same routes, where nobody verifies tokens.
        gateway("bare", server(8080)),
        *tables(),
        manifest("RequestAuthentication", "edge", of_gateway),
        manifest("RequestAuthentication", "front", of_front),
        workload("web-1", port, {"app": "web"}),
        caller("front", folder, labels={"app": "front"}),
        caller("back", folder, labels={"app": "back"}),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("claims")


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Up]:
    jwks = development_jwks(folder / "state", folder / "jwks.json").read_text()
    with Backend("web") as backend, Up(folder, {"all.yaml": manifests(backend.port, jwks, folder)}) as running:
        yield running


@pytest.fixture(scope="module")
def client(up: Up) -> Iterator[httpx.Client]:
    with up.client() as client:
        yield client


def signed(up: Up, claims: dict[str, Any], issuer: str = ISSUER) -> dict[str, str]:
    """The header of a token with ``claims``."""
    return {"authorization": f"Bearer {bearer(up, issuer, **claims)}"}


def table(up: Up, client: httpx.Client, name: str, headers: dict[str, str], port: int = 80) -> str:
    answer = up.send(client, "GET", f"http://{name}:{port}/", headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-table"])


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(index, id=f"{case.field}-{case.claim}-{index}", marks=enforces(case.shows))
        for index, case in enumerate(CASES)
    ],
)
def test_a_claim_decides(up: Up, client: httpx.Client, index: int) -> None:
    case = CASES[index]
    wrong = [claims for claims in case.takes if table(up, client, host(index), signed(up, claims)) != "claim"]
    wrong += [claims for claims in case.leaves if table(up, client, host(index), signed(up, claims)) != "rest"]
    assert not wrong


@pytest.mark.parametrize("index", range(len(CASES)))
def test_without_a_verified_token_there_are_no_claims(up: Up, client: httpx.Client, index: int) -> None:
    case = CASES[index]
    expected = "claim" if case.without else "rest"
    assert table(up, client, host(index), {}) == expected
    # Where no rule verifies tokens, a good one says nothing either.
    found = {table(up, client, host(index), signed(up, claims), 8080) for claims in (*case.takes, *case.leaves)}
    assert found == {expected}


BETA = {"group": "beta"}
FIRST = host(0)


@pytest.mark.parametrize("name", [CLAIM + ".group", CLAIM + "[group]", "@REQUEST.AUTH.CLAIMS.GROUP", "group"])
@pytest.mark.parametrize("claims", [None, {"group": "alpha"}])
def test_a_header_is_no_claim(up: Up, name: str, claims: dict[str, Any] | None) -> None:
    """Refused as no header's name, or not looked at."""
    token = {} if claims is None else signed(up, claims)
    connection = http.client.HTTPConnection(*up.gateway(80), timeout=10)
    connection.request("GET", "/", headers={"host": FIRST, name: "beta", **token})
    answer = connection.getresponse()
    connection.close()
    assert (answer.status, answer.headers["x-table"]) == ((200, "rest") if name == "group" else (400, None))


def test_a_token_that_is_not_good_takes_no_route(up: Up, client: httpx.Client) -> None:
    good = signed(up, BETA)["authorization"]
    head, payload, signature = good.removeprefix("Bearer ").split(".")
    forged = bearer(up, ISSUER, group="beta").split(".")[1]
    for token in (f"{head}.{forged}.{signature}x", f"{head}.{payload}.", bearer(up, STRANGER, group="beta")):
        answer = up.send(client, "GET", f"http://{FIRST}/", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 401


def test_everything_else_of_the_match_must_hold_too(up: Up, client: httpx.Client) -> None:
    def taken(method: str, path: str, claims: dict[str, Any]) -> str:
        answer = up.send(client, method, f"http://both.example.com{path}", headers=signed(up, claims))
        return str(answer.headers["x-table"])

    assert taken("POST", "/beta", BETA) == "claim"
    assert [taken("GET", "/beta", BETA), taken("POST", "/", BETA), taken("POST", "/beta", {})] == ["rest"] * 3


def test_one_connection_one_request_after_the_other(up: Up, client: httpx.Client) -> None:
    """The route is the request's, not the connection's."""
    found = [table(up, client, FIRST, signed(up, {"group": name})) for name in ("beta", "alpha", "beta", "alpha")]
    assert found == ["claim", "rest", "claim", "rest"]


class TestInTheMesh:
    """A program's own proxy verifies, by the rules of its workload, what the program sends; it refuses nobody."""

    URL = "http://meshed.shop/"

    @pytest.fixture(scope="class")
    def front(self, up: Up, folder: Path) -> Caller:
        return Caller("front", folder)

    @pytest.fixture(scope="class")
    def back(self, up: Up, folder: Path) -> Caller:
        return Caller("back", folder)

    @enforces(MATCH + "headers.*.exact")
    def test_a_claim_decides(self, up: Up, front: Caller) -> None:
        asked = [front.get(self.URL, headers=signed(up, {"group": name})) for name in ("beta", "alpha")]
        assert [answer.headers["x-table"] for answer in asked] == ["claim", "rest"]
        assert front.get(self.URL).headers["x-table"] == "rest"

    def test_the_token_goes_on_and_nothing_is_added(self, up: Up, front: Caller) -> None:
        sent = signed(up, BETA)
        saw = front.get(self.URL, headers=sent).json()
        assert header(saw, "authorization") == sent["authorization"]
        assert header(saw, "x-user") is None

    def test_a_token_of_somebody_else_s_is_no_concern_of_the_proxy_s(self, up: Up, front: Caller) -> None:
        for sent in (signed(up, BETA, STRANGER), {"authorization": "Bearer not.a.token"}):
            answer = front.get(self.URL, headers=sent)
            assert (answer.status_code, answer.headers["x-table"]) == (200, "rest")
            assert header(answer.json(), "authorization") == sent["authorization"]

    def test_a_workload_without_rules_knows_no_claims(self, up: Up, back: Caller) -> None:
        assert back.get(self.URL, headers=signed(up, BETA)).headers["x-table"] == "rest"


def test_where_no_token_is_verified_it_is_told(up: Up) -> None:
    assert "ISM5050" in up.output
    assert "no RequestAuthentication selects gateway shop/bare" in up.output
    assert "selects gateway shop/edge" not in up.output


def test_rules_that_come_later_count_for_the_next_request(up: Up, client: httpx.Client) -> None:
    beta = signed(up, BETA)
    assert table(up, client, FIRST, beta, 8080) == "rest"
    selector = {"matchLabels": {"istio": "bare"}}
    jwks = (up.folder / "jwks.json").read_text()
    rule = {"selector": selector, "jwtRules": [{"issuer": ISSUER, "jwks": jwks}]}
    up.write("later.yaml", dump(manifest("RequestAuthentication", "bare", rule)))
    eventually(lambda: table(up, client, FIRST, beta, 8080) == "claim")
    up.remove("later.yaml")
    eventually(lambda: table(up, client, FIRST, beta, 8080) == "rest")
