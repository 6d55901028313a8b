"""The tables of docs/attacks.md on real Envoys: refused with the reason that they say, or harmless to the program."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from isthmus.jwks.store import load_signing_key
from tests.real.attacking import h2_status, said, status_of
from tests.real.attacks import FRAMING, H2, HOST, PATHS, headers, keys, places, tokens
from tests.real.backend import Backend
from tests.real.client_authentication import authentication
from tests.real.forging import Forger
from tests.real.traffic import Manifest, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.up import Up, development_jwks, eventually, isthmus

pytestmark = pytest.mark.real

ISSUER = "https://known.example.com"
EDGE = "gateway~shop~edge"
PAGE = Path(__file__).parents[2] / "docs" / "attacks.md"
CLAIMED = {"x-user-id", "x-payload", "x-admin"}
KEYED = ("keys", "perhaps")
"""Routes that take API keys; the first needs one."""


@dataclass(frozen=True, slots=True)
class Row:
    """``status`` 0: closed. ``reason`` None: it is harmless, and arrives."""

    status: int
    reason: str | None


def table() -> dict[str, Row]:
    """What the page says of each attack."""
    rows = re.findall(r"^\| (.+?) \| (\d+|closed)(?: `([a-z-]+)`)?(?:, .+?)? \|$", PAGE.read_text(), re.M)
    return {name: Row(0 if status == "closed" else int(status), reason or None) for name, status, reason in rows}


ROWS = table()
NAMES = {
    "tokens": list(tokens(Forger.new(ISSUER))),
    "places": list(places(Forger.new(ISSUER))),
    "headers": list(headers()),
    "keys": list(keys("", "")),
    "paths": list(PATHS),
    "framing": list(FRAMING),
    "h2": list(H2),
}


def world(jwks: str, port: int) -> Iterator[Manifest]:
    secured = server(8443, HOST, protocol="HTTPS", tls={"mode": "SIMPLE", "credentialName": "web"})
    yield gateway("edge", server(8080), secured)
    cors = {"allowOrigins": [{"exact": "https://app.example"}], "allowMethods": ["GET"]}
    taken = [{"name": name, "match": [{"uri": {"exact": f"/{name}"}}], "route": [to("web")]} for name in KEYED]
    yield routes("web", [HOST], *taken, {"corsPolicy": cors, "route": [to("web")]}, gateways=["edge"])
    where = {"headers": ["x-api-key", "authorization"], "query": ["api_key"], "cookies": ["key"]}
    for name in KEYED:
        target = {"kind": "VirtualService", "name": "web", "sectionName": name}
        yield authentication(name, {"apiKey": where}, required=name == "keys", targetRefs=[target])
    yield {**manifest("Consumer", "mobile", {}), "apiVersion": "isthmus.dev/v1alpha1"}
    yield routes("any", ["*.any.example"], {"route": [to("web")]}, gateways=["edge"])
    yield service("web")
    yield workload("web", port, {"app": "web"})
    selector = {"matchLabels": {"istio": "edge"}}
    claims = [{"header": "x-user-id", "claim": "sub"}]
    rule = {"issuer": ISSUER, "jwks": jwks, "audiences": ["shop"], "outputClaimToHeaders": claims}
    rule["outputPayloadToHeader"] = "x-payload"
    yield manifest("RequestAuthentication", "tokens", {"selector": selector, "jwtRules": [rule]})
    needed = {"from": [{"source": {"notRequestPrincipals": ["*"]}}], "to": [{"operation": {"paths": ["/need"]}}]}
    admin = {"to": [{"operation": {"paths": ["/admin", "/admin/*"]}}]}
    spec = {"selector": selector, "action": "DENY", "rules": [needed, admin]}
    yield manifest("AuthorizationPolicy", "forbidden", spec)


@dataclass(frozen=True, slots=True)
class Outcome:
    """``reason``: of the gateway's access log; ``saw``: what arrived at the program."""

    status: int
    reason: str | None
    saw: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Mesh:
    up: Up
    web: Backend
    good: Forger
    keys: tuple[str, str]

    def over_http(self, raw: str) -> Outcome:
        """Of exactly this, and a line that ends it, as the others end."""
        end = "\r\n" if "\r\n" in raw else "\n"
        return self._compared(lambda: status_of(said(self.up.gateway(8080), (raw + end).encode("latin-1"))))

    def over_h2(self, sent: list[tuple[str, str]]) -> Outcome:
        return self._compared(lambda: h2_status(self.up.gateway(8443), self.up.trust(), HOST, sent))

    def _compared(self, send: Callable[[], int]) -> Outcome:
        logged, seen = len(self.up.access_log(EDGE)), len(self.web.seen)
        status = send()
        line: dict[str, Any] = eventually(lambda: next(iter(self.up.access_log(EDGE)[logged:]), None))
        return Outcome(status, line["reason"], tuple(self.web.seen[seen:]))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("attacks")
    jwks = development_jwks(folder / "state", folder / "jwks.json").read_text()
    with Backend("web") as web, Up(folder, {"all.yaml": dump(*world(jwks, web.port))}) as up:
        good = Forger(load_signing_key(up.state / "tokens"), ISSUER)
        eventually(lambda: up.get(f"http://{HOST}:8080/open", headers={"host": HOST}).status_code == 200)
        # The lines of these requests are there before any that a test looks for.
        assert up.get(f"http://{HOST}:8080/last", headers={"host": HOST}).status_code == 200
        eventually(lambda: any(line["path"] == "/last" for line in up.access_log(EDGE)))
        yield Mesh(up, web, good, (_key(up), _key(up)))


def _key(up: Up) -> str:
    made = isthmus("consumer", "key", "create", "shop/mobile", "--state", str(up.state))
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def expected(name: str, found: Outcome) -> None:
    """As the page has it; and whatever arrives, nothing in it is the attacker's to say."""
    assert (found.status, found.reason) == (ROWS[name].status, ROWS[name].reason)
    if ROWS[name].reason is not None:
        assert found.saw == ()
    for saw in found.saw:
        claimed = {key: value for key, value in saw["headers"] if key.replace("_", "-") in CLAIMED}
        assert claimed == {}, "without a token nobody claims anything"
        certificate = [value for key, value in saw["headers"] if key == "x-forwarded-client-cert"]
        assert not any("admin" in value for value in certificate)
        assert "isk_" not in str(saw), "no key arrives"
        assert "shop/admin" not in str(saw)
        assert saw["path"] == "/open" or (not saw["path"].startswith("/admin/") and saw["path"] != "/admin")


@pytest.mark.parametrize("name", NAMES["tokens"])
def test_tokens(mesh: Mesh, name: str) -> None:
    token = tokens(mesh.good)[name]
    expected(name, mesh.over_http(f"GET /need HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {token}\r\n"))


@pytest.mark.parametrize("name", NAMES["places"])
def test_where_tokens_are(mesh: Mesh, name: str) -> None:
    expected(name, mesh.over_http(places(mesh.good)[name]))


@pytest.mark.parametrize("name", NAMES["headers"])
def test_headers(mesh: Mesh, name: str) -> None:
    expected(name, mesh.over_http(headers()[name]))


@pytest.mark.parametrize("name", NAMES["keys"])
def test_api_keys(mesh: Mesh, name: str) -> None:
    expected(name, mesh.over_http(keys(*mesh.keys)[name]))


@pytest.mark.parametrize("name", NAMES["paths"])
def test_paths(mesh: Mesh, name: str) -> None:
    found = mesh.over_http(f"GET {PATHS[name]} HTTP/1.1\r\nhost: {HOST}\r\n")
    expected(name, found)
    assert all(saw["path"] == PATHS[name] for saw in found.saw), "what was judged is what arrives"


@pytest.mark.parametrize("name", NAMES["framing"])
def test_framing(mesh: Mesh, name: str) -> None:
    expected(name, mesh.over_http(FRAMING[name]))


@pytest.mark.parametrize("name", NAMES["h2"])
def test_http_2(mesh: Mesh, name: str) -> None:
    expected(name, mesh.over_h2(H2[name]))


def test_what_is_no_attack_arrives(mesh: Mesh) -> None:
    found = mesh.over_http(
        f"GET /need HTTP/1.1\r\nhost: {HOST}\r\nx-user-id: admin\r\nauthorization: Bearer {mesh.good.token()}\r\n"
    )
    assert (found.status, found.reason) == (200, None)
    (saw,) = found.saw
    assert [value for key, value in saw["headers"] if key == "x-user-id"] == ["alice"]


def test_the_page_has_each_attack_and_no_other() -> None:
    assert sorted(ROWS) == sorted(name for names in NAMES.values() for name in names)
