"""Cross-origin requests on real Envoys: what a browser is told, and that nobody gets in by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real.backend import Backend, Reply, header
from tests.real.fields import enforces
from tests.real.traffic import Caller, Manifest, caller, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.up import Up, development_jwks

pytestmark = pytest.mark.real

CORS = "VirtualService.spec.http[].corsPolicy."
ISSUER = "https://auth.example.com"
SHOP, OTHER = "https://shop.example.com", "https://other.example.net"

POLICIES: dict[str, Manifest] = {
    "exact": {"allowOrigins": [{"exact": SHOP}], "allowMethods": ["GET", "PUT"]},
    "prefix": {"allowOrigins": [{"prefix": "https://shop.example.com:"}]},
    "regex": {"allowOrigins": [{"regex": "https://[a-z]+[.]example[.]com"}]},
    "several": {"allowOrigins": [{"exact": "https://a.example"}, {"exact": SHOP}]},
    "deprecated": {"allowOrigin": ["https://a.example", SHOP]},
    "everybody": {"allowOrigins": [{"exact": "*"}]},
    "headers": {"allowOrigins": [{"exact": SHOP}], "allowHeaders": ["x-a", "x-b"], "exposeHeaders": ["x-c"]},
    "cached": {"allowOrigins": [{"exact": SHOP}], "maxAge": "24h"},
    "credentials": {"allowOrigins": [{"exact": SHOP}], "allowCredentials": True},
    "no-credentials": {"allowOrigins": [{"exact": SHOP}], "allowCredentials": False},
    "forwarded": {"allowOrigins": [{"exact": SHOP}], "unmatchedPreflights": "FORWARD"},
    "ignored": {"allowOrigins": [{"exact": SHOP}], "unmatchedPreflights": "IGNORE"},
}


def host(name: str) -> str:
    return f"{name}.example.com"


def security(kind: str, name: str, app: str, spec: Manifest) -> Manifest:
    return manifest(kind, name, {"selector": {"matchLabels": {"istio": app}}, **spec})


def tables() -> Iterator[Manifest]:
    for name, policy in POLICIES.items():
        yield routes(name, [host(name)], {"corsPolicy": policy, "route": [to("web")]}, gateways=["edge"])
    yield routes("without", [host("without")], {"route": [to("web")]}, gateways=["edge"])
    # Behind the same policies, a gateway that asks for a token.
    for name in ("closed", "closed-without"):
        route: Manifest = {"route": [to("web")]}
        if name == "closed":
            route["corsPolicy"] = POLICIES["credentials"]
        yield routes(name, [host(name)], route, gateways=["guarded"])
    answer = {"directResponse": {"status": 200, "body": {"string": "for those let in"}}}
    yield routes("closed-answer", [host("closed-answer")], answer, gateways=["guarded"])
    meshed = {"corsPolicy": POLICIES["exact"], "route": [to("web")]}
    yield routes("meshed", ["meshed"], meshed)


def manifests(port: int, jwks: str, folder: Path) -> str:
    rule = {"issuer": ISSUER, "jwks": jwks, "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}]}
    token = {"action": "ALLOW", "rules": [{"from": [{"source": {"requestPrincipals": ["*"]}}]}]}
    return dump(
        gateway("edge", server(80)),
        gateway("guarded", server(8080)),
        *tables(),
        security("RequestAuthentication", "tokens", "guarded", {"jwtRules": [rule]}),
        security("AuthorizationPolicy", "asked", "guarded", token),
        service("web"),
        service("meshed", selector={"app": "web"}),
        workload("web-1", port, {"app": "web"}),
        caller("front", folder),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cors")


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend("web", lambda saw: Reply(headers=(("x-of", "backend"),))) as running:
        yield running


@pytest.fixture(scope="module")
def up(folder: Path, backend: Backend) -> Iterator[Up]:
    jwks = development_jwks(folder / "state", folder / "jwks.json").read_text()
    with Up(folder, {"all.yaml": manifests(backend.port, jwks, folder)}) as running:
        yield running


@pytest.fixture(scope="module")
def client(up: Up) -> Iterator[httpx.Client]:
    with up.client() as client:
        yield client


def ask(up: Up, client: httpx.Client, name: str, method: str = "GET", **headers: str) -> httpx.Response:
    port = ":8080" if name.startswith("closed") else ""
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    return up.send(client, method, f"http://{host(name)}{port}/", headers=sent)


def preflight(up: Up, client: httpx.Client, name: str, origin: str = SHOP, **headers: str) -> httpx.Response:
    asked = {"origin": origin, "access_control_request_method": "PUT", **headers}
    return ask(up, client, name, "OPTIONS", **asked)


def told(answer: httpx.Response) -> dict[str, str]:
    """What the answer tells a browser, without the beginnings of the names."""
    prefix = "access-control-"
    return {name.removeprefix(prefix): value for name, value in answer.headers.items() if name.startswith(prefix)}


ORIGINS = (
    ("exact", (SHOP,), (OTHER, "http://shop.example.com", "https://shop.example.com:8443", "null")),
    ("prefix", (f"{SHOP}:443", f"{SHOP}:8443"), (SHOP, f"{SHOP}.evil.example:443", OTHER)),
    ("regex", (SHOP, "https://a.example.com"), (OTHER, f"{SHOP}.evil.example", "https://a1.example.com")),
    ("several", (SHOP, "https://a.example"), (OTHER,)),
    ("deprecated", (SHOP, "https://a.example"), (OTHER,)),
    ("everybody", (SHOP, OTHER), ()),
)
_FIELDS = {
    "exact": "allowOrigins[].exact",
    "prefix": "allowOrigins[].prefix",
    "regex": "allowOrigins[].regex",
    "deprecated": "allowOrigin",
}


@pytest.mark.parametrize(
    ("name", "allowed", "others"),
    [pytest.param(*case, marks=enforces(CORS + _FIELDS.get(case[0], "allowOrigins[].exact"))) for case in ORIGINS],
)
def test_origins(
    up: Up, client: httpx.Client, backend: Backend, name: str, allowed: tuple[str, ...], others: tuple[str, ...]
) -> None:
    for origin in allowed:
        seen = len(backend.seen)
        before = preflight(up, client, name, origin)
        assert (before.status_code, told(before)["allow-origin"]) == (200, origin)
        assert len(backend.seen) == seen, "answered by the gateway"
        answer = ask(up, client, name, origin=origin)
        assert (answer.headers["x-of"], told(answer)["allow-origin"]) == ("backend", origin)
    for origin in others:
        assert told(preflight(up, client, name, origin)) == {}
        answer = ask(up, client, name, origin=origin)
        assert (answer.headers["x-of"], told(answer)) == ("backend", {}), (
            "it is the browser that keeps it from the page"
        )


@enforces(CORS + "allowMethods")
def test_methods(up: Up, client: httpx.Client) -> None:
    assert told(preflight(up, client, "exact"))["allow-methods"] == "GET,PUT"
    assert "allow-methods" not in told(preflight(up, client, "regex"))


@enforces(CORS + "allowHeaders", CORS + "exposeHeaders")
def test_headers(up: Up, client: httpx.Client) -> None:
    assert told(preflight(up, client, "headers"))["allow-headers"] == "x-a,x-b"
    assert told(ask(up, client, "headers", origin=SHOP)) == {"allow-origin": SHOP, "expose-headers": "x-c"}
    assert "allow-headers" not in told(preflight(up, client, "exact"))
    assert told(ask(up, client, "exact", origin=SHOP)) == {"allow-origin": SHOP}


@enforces(CORS + "maxAge")
def test_how_long_a_browser_keeps_it(up: Up, client: httpx.Client) -> None:
    assert told(preflight(up, client, "cached"))["max-age"] == "86400"
    assert "max-age" not in told(preflight(up, client, "exact"))


@enforces(CORS + "allowCredentials")
def test_credentials(up: Up, client: httpx.Client) -> None:
    assert told(preflight(up, client, "credentials"))["allow-credentials"] == "true"
    assert told(ask(up, client, "credentials", origin=SHOP))["allow-credentials"] == "true"
    for name in ("no-credentials", "exact"):
        assert "allow-credentials" not in told(preflight(up, client, name))
        assert "allow-credentials" not in told(ask(up, client, name, origin=SHOP))


@enforces(CORS + "unmatchedPreflights")
def test_preflights_from_elsewhere(up: Up, client: httpx.Client, backend: Backend) -> None:
    for name, forwarded in (("forwarded", True), ("exact", True), ("ignored", False)):
        seen = len(backend.seen)
        answer = preflight(up, client, name, OTHER)
        assert told(answer) == {}
        assert (answer.status_code, len(backend.seen) - seen) == (200, int(forwarded)), name


def test_without_a_policy_it_is_a_request_like_any_other(up: Up, client: httpx.Client) -> None:
    answer = preflight(up, client, "without")
    assert (answer.json()["method"], told(answer)) == ("OPTIONS", {})


class TestWhereATokenIsAskedFor:
    """A preflight brings none, so it is answered before anybody is asked who he is; nothing else gets in by it."""

    def test_a_preflight_is_answered(self, up: Up, client: httpx.Client, backend: Backend) -> None:
        seen = len(backend.seen)
        answer = preflight(up, client, "closed")
        assert (answer.status_code, answer.content, len(backend.seen) - seen) == (200, b"", 0)
        assert told(answer)["allow-origin"] == SHOP

    @pytest.mark.parametrize(("name", "origin"), [("closed", OTHER), ("closed-without", SHOP)])
    def test_any_other_preflight_is_refused(
        self, up: Up, client: httpx.Client, backend: Backend, name: str, origin: str
    ) -> None:
        seen = len(backend.seen)
        answer = preflight(up, client, name, origin, x_user="admin")
        assert (answer.status_code, len(backend.seen) - seen) == (403, 0)

    @pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS"])
    def test_a_request_from_an_allowed_origin_needs_its_token(
        self, up: Up, client: httpx.Client, backend: Backend, method: str
    ) -> None:
        """OPTIONS without ``access-control-request-method`` is no preflight."""
        seen = len(backend.seen)
        assert ask(up, client, "closed", method, origin=SHOP).status_code == 403
        assert ask(up, client, "closed", method, origin=SHOP, authorization="Bearer x.y.z").status_code == 401
        assert len(backend.seen) == seen
        good = {"authorization": f"Bearer {up.token(ISSUER)}", "x_user": "admin"}
        answer = ask(up, client, "closed", method, origin=SHOP, **good)
        assert (answer.status_code, header(answer.json(), "x-user")) == (200, "alice")
        assert told(answer)["allow-origin"] == SHOP

    def test_a_page_may_read_why_it_was_refused(self, up: Up, client: httpx.Client) -> None:
        """Only one of an allowed origin."""
        assert told(ask(up, client, "closed", origin=SHOP))["allow-origin"] == SHOP
        assert told(ask(up, client, "closed", origin=OTHER)) == {}


def test_an_answer_of_the_gateway_s_own_is_for_those_let_in(up: Up, client: httpx.Client) -> None:
    refused = ask(up, client, "closed-answer")
    assert (refused.status_code, "let in" in refused.text) == (403, False)
    answer = ask(up, client, "closed-answer", authorization=f"Bearer {up.token(ISSUER)}")
    assert (answer.status_code, answer.text) == (200, "for those let in")


def test_a_preflight_cannot_bring_what_only_the_gateway_sets(up: Up, client: httpx.Client, backend: Backend) -> None:
    """Forwarded by a gateway that asks for nothing, while another one's rules set the header."""
    answer = preflight(up, client, "forwarded", OTHER, x_user="admin")
    assert answer.json()["method"] == "OPTIONS"
    assert header(answer.json(), "x-user") is None


@enforces(CORS + "allowOrigins[].exact")
def test_calls_of_a_program_in_the_mesh(up: Up, folder: Path) -> None:
    front = Caller("front", folder)
    asked: dict[str, Any] = {"access-control-request-method": "PUT"}
    found = front.client.options("http://meshed.shop/", headers={"origin": SHOP, **asked})
    assert (found.content, told(found)["allow-methods"]) == (b"", "GET,PUT")
    found = front.client.options("http://meshed.shop/", headers={"origin": OTHER, **asked})
    assert (found.json()["method"], told(found)) == ("OPTIONS", {})
