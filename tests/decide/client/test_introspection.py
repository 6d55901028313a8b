from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isthmus.decide.client.introspection import (
    INACTIVE,
    UNAVAILABLE,
    Introspection,
    Provider,
    read_answer,
    read_providers,
)
from isthmus.decide.client.outcome import Refused
from isthmus.errors import IntrospectionUnavailable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROVIDER = Provider(
    "https://idp",
    "https://idp/introspect",
    "shop",
    "secret",
    "client_secret_basic",
    (),
    timedelta(seconds=30),
    timedelta(seconds=2),
)
SETTINGS = {
    "issuer": "https://idp",
    "endpoint": "https://idp/introspect",
    "clientId": "shop",
    "clientSecret": "secret",
    "clientAuth": "client_secret_basic",
    "audiences": [],
    "cacheSeconds": 30.0,
    "timeoutSeconds": 2.0,
    "ca": None,
    "caMissing": False,
}


class Endpoint:
    """Answers what it is told to; counts."""

    def __init__(self, answer: Callable[[str], dict[str, Any]]) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def introspect(self, provider: Provider, token: str) -> bytes:
        self.asked.append(token)
        await self.open.wait()
        return json.dumps(self.answer(token)).encode()


def active(**claims: Any) -> dict[str, Any]:
    return {"active": True, "sub": "alice", **claims}


def introspection(endpoint: Endpoint, provider: Provider = PROVIDER) -> Introspection:
    return Introspection(endpoint, {"p": provider})


async def test_an_answer_is_kept_for_a_while_and_never_past_the_tokens_end() -> None:
    ends = int((NOW + timedelta(seconds=10)).timestamp())
    endpoint = Endpoint(lambda token: active(exp=ends) if token == "short" else active())
    asking = introspection(endpoint)
    for token, seconds in (("long", 0), ("long", 29), ("short", 0), ("short", 9)):
        assert not isinstance(await asking.claims("p", token, NOW + timedelta(seconds=seconds)), Refused)
    assert endpoint.asked == ["long", "short"]
    await asking.claims("p", "long", NOW + timedelta(seconds=30))
    await asking.claims("p", "short", NOW + timedelta(seconds=10))
    assert endpoint.asked == ["long", "short", "long", "short"]


async def test_whoever_asks_the_same_at_the_same_time_waits_for_the_same_answer() -> None:
    endpoint = Endpoint(lambda token: active())
    endpoint.open.clear()
    asking = introspection(endpoint)
    waiting = [asyncio.create_task(asking.claims("p", "token", NOW)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    endpoint.open.set()
    found = await asyncio.gather(*waiting[1:])
    assert [claims["sub"] for claims in found if not isinstance(claims, Refused)] == ["alice"] * 4
    assert endpoint.asked == ["token"]


async def test_a_flood_of_made_up_tokens_is_not_passed_on() -> None:
    endpoint = Endpoint(lambda token: {"active": False})
    endpoint.open.clear()
    asking = introspection(endpoint)
    waiting = [asyncio.create_task(asking.claims("p", f"token-{number}", NOW)) for number in range(300)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(endpoint.asked) == 256
    endpoint.open.set()
    found = await asyncio.gather(*waiting)
    assert (found.count(INACTIVE), found.count(UNAVAILABLE)) == (256, 44)


async def test_a_flood_of_one_providers_tokens_closes_no_other() -> None:
    endpoint = Endpoint(lambda token: active())
    endpoint.open.clear()
    asking = Introspection(endpoint, {"p": PROVIDER, "other": PROVIDER})
    waiting = [asyncio.create_task(asking.claims("p", f"token-{number}", NOW)) for number in range(300)]
    await asyncio.sleep(0)
    one = asyncio.create_task(asking.claims("other", "token", NOW))
    await asyncio.sleep(0)
    endpoint.open.set()
    assert not isinstance(await one, Refused)
    await asyncio.gather(*waiting)
    assert not isinstance(await asking.claims("p", "again", NOW), Refused), "what was answered makes room"


async def test_inactive_tokens_are_remembered_briefly_and_push_no_good_one_out() -> None:
    endpoint = Endpoint(lambda token: active() if token == "good" else {"active": False})
    asking = introspection(endpoint)
    await asking.claims("p", "good", NOW)
    for number in range(10_050):
        assert await asking.claims("p", f"bad-{number}", NOW) == INACTIVE
    asked = len(endpoint.asked)
    await asking.claims("p", "good", NOW)
    assert await asking.claims("p", "bad-10049", NOW + timedelta(seconds=4)) == INACTIVE
    assert len(endpoint.asked) == asked
    await asking.claims("p", "bad-10049", NOW + timedelta(seconds=5))
    assert len(endpoint.asked) == asked + 1


async def test_what_is_too_long_or_empty_nobody_is_asked_about() -> None:
    endpoint = Endpoint(lambda token: active())
    asking = introspection(endpoint)
    assert await asking.claims("p", "x" * 20_000, NOW) == INACTIVE
    assert await asking.claims("p", "", NOW) == INACTIVE
    assert endpoint.asked == []


async def test_a_provider_that_changed_is_asked_again_and_one_that_is_gone_never() -> None:
    endpoint = Endpoint(lambda token: active())
    asking = introspection(endpoint)
    await asking.claims("p", "token", NOW)
    asking.learn({"p": PROVIDER})
    await asking.claims("p", "token", NOW)
    assert len(endpoint.asked) == 1
    asking.learn({"p": replace(PROVIDER, client_secret="another")})
    await asking.claims("p", "token", NOW)
    assert len(endpoint.asked) == 2
    asking.learn({})
    assert await asking.claims("p", "token", NOW) == UNAVAILABLE


async def test_a_fault_is_kept_for_nobody(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = Endpoint(lambda token: {"active": "yes"})
    asking = introspection(endpoint)
    assert [await asking.claims("p", "s3cret-token", NOW) for _ in range(3)] == [UNAVAILABLE] * 3
    assert len(endpoint.asked) == 3
    (told,) = caplog.records
    assert "https://idp/introspect" in told.getMessage()
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'"active"',
        b'{"active": 1}',
        b'{"active": null}',
        b'{"sub": "x"}',
        b'{"active": NaN}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(IntrospectionUnavailable):
        read_answer(body, PROVIDER, NOW)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"active": False, "sub": "alice"}, "token-inactive"),
        (active(iss="https://other"), "token-inactive"),
        (active(exp=NOW.timestamp() - 61), "token-inactive"),
        (active(exp="soon"), "token-inactive"),
        (active(exp=1e300), "token-inactive"),
        (active(nbf=NOW.timestamp() + 61), "token-inactive"),
        (active(aud="bills"), "jwt-audience-invalid"),
        (active(aud=["bills", 7]), "jwt-audience-invalid"),
        (active(aud={"orders": 1}), "jwt-audience-invalid"),
        (active(), "jwt-audience-invalid"),
    ],
)
def test_an_answer_may_still_refuse(answer: dict[str, Any], reason: str) -> None:
    found = read_answer(json.dumps(answer).encode(), replace(PROVIDER, audiences=("orders",)), NOW)
    assert isinstance(found, Refused)
    assert found.reason == reason


def test_the_claims_of_a_good_one() -> None:
    answer = active(iss="https://idp", aud=["x", "orders"], scope="read write", exp=NOW.timestamp() - 30, nbf=None)
    found = read_answer(json.dumps(answer).encode(), replace(PROVIDER, audiences=("orders",)), NOW)
    assert not isinstance(found, Refused)
    assert (found["sub"], found["scope"]) == ("alice", ["read", "write"])
    assert "active" not in found


def test_a_token_that_ends_with_the_calendar_is_good() -> None:
    never = datetime.max.replace(microsecond=0, tzinfo=UTC).timestamp()
    found = read_answer(json.dumps(active(iss="https://idp", exp=int(never))).encode(), PROVIDER, NOW)
    assert not isinstance(found, Refused)


def test_settings_without_what_they_need_make_no_provider() -> None:
    good = read_providers({"p": SETTINGS})
    assert good == {"p": PROVIDER}
    assert "secret" not in repr(good["p"]).replace("client_secret_basic", "")
    assert read_providers({"p": {**SETTINGS, "clientSecret": None}}) == {}
    assert read_providers({"p": {**SETTINGS, "caMissing": True}}) == {}
