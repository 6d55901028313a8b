"""ClientAuthentication on real Envoys: which tokens a route takes, without a question to anybody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from isthmus.jwks.signing import mint
from isthmus.jwks.store import load_signing_key
from tests.real.backend import Backend
from tests.real.client_authentication import FIRST, PLAIN, SECOND, Shop, authentication, issuers, jwt, world
from tests.real.fields import enforces
from tests.real.traffic import dump, service, to, workload
from tests.real.up import Up, development_jwks, eventually

pytestmark = pytest.mark.real

SPEC = "ClientAuthentication.spec."
PATHS = ("first", "second", "both", "optional", "free", "keyless")
EDGE = {"group": "networking.istio.io", "kind": "Gateway", "name": "edge"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("clients")
    jwks = development_jwks(folder / "state", folder / "jwks.json").read_text()
    policies = (
        issuers(jwks, FIRST, SECOND, forwardOriginalToken=True),
        authentication("first", jwt(FIRST)),
        authentication("second", jwt(SECOND)),
        authentication("both", jwt(FIRST), jwt(SECOND)),
        authentication("optional", jwt(FIRST), required=False),
        authentication("keyless", jwt("https://keyless.example.com")),
        authentication("plain", jwt(SECOND), targetRefs=[{**EDGE, "sectionName": "plain"}]),
        service("inner"),
        issuers(jwks, FIRST, SECOND, app="inner"),
        authentication("inner", jwt(SECOND), selector={"matchLabels": {"app": "inner"}}),
    )
    inner = {"name": "inner", "match": [{"uri": {"prefix": "/inner"}}], "route": [to("inner")]}
    with Backend() as backend:
        program = workload("inner-1", backend.port, {"app": "inner"})
        written = world(backend.port, PATHS, *policies, program, first=(inner,))
        with Up(folder, {"shop.yaml": written}) as up:
            yield Shop(up, folder)


@enforces(
    f"{SPEC}methods[].jwt.issuers",
    f"{SPEC}targetRefs[].kind",
    f"{SPEC}targetRefs[].name",
    f"{SPEC}targetRefs[].sectionName",
    f"{SPEC}required",
)
def test_a_route_takes_tokens_of_its_issuers_alone(shop: Shop) -> None:
    first, second = shop.token(FIRST), shop.token(SECOND)
    assert shop.ask("first", bearer=first).status == 200
    assert shop.ask("second", bearer=second).status == 200
    assert [shop.ask("both", bearer=token).status for token in (first, second)] == [200, 200]
    assert shop.ask("first", bearer=second).refused == (401, "jwt-issuer-unknown")
    assert shop.ask("second", bearer=first).refused == (401, "jwt-issuer-unknown")
    assert shop.ask("first").refused == (401, "token-missing")
    assert shop.ask("both").refused == (401, "token-missing")
    assert shop.ask("keyless", bearer=shop.token("https://keyless.example.com")).refused == (401, "jwks-unavailable")
    # Nobody says anything of this route: what a RequestAuthentication means by itself.
    assert shop.ask("free").status == 200
    assert shop.ask("optional").status == 200
    assert shop.ask("optional", bearer=first).status == 200
    assert shop.ask("optional", bearer=second).refused == (401, "jwt-issuer-unknown")


def test_a_refusal_says_which_sort_of_credential_is_missing(shop: Shop) -> None:
    assert "www-authenticate" not in shop.ask("first", bearer=shop.token(FIRST)).response.headers
    assert shop.ask("first").response.headers["www-authenticate"] == "Bearer"


def test_two_tokens_are_one_too_many(shop: Shop) -> None:
    token = shop.token(FIRST)
    for written in ("access_token", "access%5Ftoken", "a=1&acce%73s%5ftoken"):
        told = shop.ask("first", bearer=token, query=f"?{written}={shop.token(FIRST, subject='carol')}")
        assert told.refused == (403, "credential-ambiguous")
    assert shop.ask("first", query=f"?access_token={token}").status == 200
    assert shop.ask("first", bearer=token, query="?other=access_token").status == 200


def test_tokens_of_a_clock_that_is_ten_minutes_off(shop: Shop) -> None:
    def token(minutes: int, lives: int) -> str:
        """As an issuer gives it whose clock is so many minutes ahead."""
        theirs = datetime.now(UTC) + timedelta(minutes=minutes)
        return mint(
            load_signing_key(shop.up.state / "tokens"),
            issuer=FIRST,
            subject="alice",
            audiences=(),
            claims={"nbf": int(theirs.timestamp())},
            expires_in=timedelta(minutes=lives),
            now=theirs,
        )

    assert shop.ask("first", bearer=token(10, 60)).refused == (401, "jwt-not-yet-valid")
    assert shop.ask("first", bearer=token(-10, 5)).refused == (401, "jwt-expired")
    assert shop.ask("first", bearer=token(-10, 60)).status == 200


@enforces(f"{SPEC}targetRefs[].group", f"{SPEC}selector.matchLabels")
def test_the_closest_policy_holds(shop: Shop) -> None:
    first, second = shop.token(FIRST), shop.token(SECOND)

    def plain(path: str, token: str | None = None) -> int:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return shop.up.get(f"http://{PLAIN}/{path}", headers=headers).status_code

    # Of the server, where nobody names the route.
    assert [plain("free"), plain("free", first), plain("free", second)] == [401, 401, 200]
    assert [plain("first"), plain("first", first), plain("first", second)] == [401, 200, 401]
    # The gateway takes both; what is behind it does not.
    assert [shop.ask("inner", bearer=token).status for token in (None, first, second)] == [401, 401, 200]


def test_the_requirement_changes_with_the_policy(shop: Shop) -> None:
    first, second = shop.token(FIRST), shop.token(SECOND)
    assert shop.ask("free", bearer=first).status == 200
    shop.up.write("more.yaml", dump(authentication("free", jwt(SECOND))))
    eventually(lambda: shop.ask("free").status == 401, 30)
    assert shop.ask("free", bearer=first).refused == (401, "jwt-issuer-unknown")
    assert shop.ask("free", bearer=second).status == 200
    shop.up.write("more.yaml", dump(authentication("free", {"basic": {}})))
    eventually(lambda: "ISM1105" in shop.up.output, 30)
    assert shop.ask("free").refused == (401, "token-missing")
    shop.up.remove("more.yaml")
    eventually(lambda: shop.ask("free").status == 200, 30)
