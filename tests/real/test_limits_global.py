"""RateLimitPolicy: limits that the limit service counts, in its memory and in a real Redis, for several gateways."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.limits import ISSUER, Asking, Gate, bearer, host, limit, limited, targeting, within_a_day
from tests.real.redis_server import RedisServer
from tests.real.traffic import Manifest, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.up import Up, arguments_of, children_of, development_jwks, eventually

pytestmark = pytest.mark.real

SPEC = "RateLimitPolicy.spec."
LIMIT = f"{SPEC}limits[]."
CONCURRENCY = f"{SPEC}concurrency[]."
EDGE = "gateway~shop~edge"
BOTH = ("edge", "other")
STORE = {"redis": {"secretName": "counter"}}


def counted(name: str, **spec: object) -> Manifest:
    return limit(name, scope="GLOBAL", **spec)


def in_redis(name: str, **spec: object) -> tuple[Manifest, Manifest]:
    return limited(name, BOTH, store=STORE, **spec)


def manifests(port: int, jwks: str, redis: str) -> str:
    rule = {"issuer": ISSUER, "jwks": jwks}
    retries = {"attempts": 2, "retryOn": "5xx", "perTryTimeout": "5s"}
    secret = manifest("Secret", "counter", None)
    del secret["spec"]
    at_edge = {"selector": {"matchLabels": {"istio": "edge"}}}
    return dump(
        gateway("edge", server(80)),
        gateway("other", server(8080)),
        {**secret, "stringData": {"url": redis}},
        manifest("RequestAuthentication", "tokens", {**at_edge, "jwtRules": [rule]}),
        *limited("together", BOTH, limits=[counted("all", requests=4)]),
        *limited("by-claim", limits=[counted("each", by=[{"claim": "sub"}])]),
        *limited("day", limits=[counted("daily", requests=3, per="day")]),
        *limited("month", limits=[counted("monthly", requests=3, per="month")]),
        *limited("watched", limits=[counted("trial", requests=1, shadow=True), counted("all", requests=3)]),
        *limited("mixed", limits=[counted("a", requests=3), counted("b", onFailure="ALLOW")]),
        *limited("slots", concurrency=[{"name": "slots", "max": 2, "match": {"methods": ["PUT"]}}]),
        *limited("slots-each", concurrency=[{"name": "each", "max": 1, "by": [{"header": "x-who"}]}]),
        *limited("slots-short", concurrency=[{"name": "short", "max": 1, "longest": "1s"}]),
        *limited("slots-trial", concurrency=[{"name": "trial", "max": 1, "shadow": True, "onFailure": "ALLOW"}]),
        *limited("kept", limits=[counted("daily", requests=3, per="day")]),
        *limited("gone-closed", limits=[counted("all", requests=1_000_000)]),
        *limited("gone-open", limits=[counted("all", onFailure="ALLOW")]),
        *in_redis("shared", limits=[counted("all", requests=4)]),
        *in_redis("shared-day", limits=[counted("daily", requests=3, per="day")]),
        *in_redis("closed", limits=[counted("all", requests=1_000_000)]),
        *in_redis("open", limits=[counted("all", requests=1, onFailure="ALLOW")]),
        routes("retried", [host("retried")], {"route": [to("web")], "retries": retries}, gateways=["edge"]),
        targeting("retried", limits=[counted("all")]),
        routes("free", [host("free")], {"route": [to("web")]}, gateways=["edge"]),
        manifest(
            "RateLimitPolicy", "web", {"selector": {"matchLabels": {"app": "guarded"}}, "limits": [counted("all")]}
        ),
        routes("guarded", [host("guarded")], {"route": [to("guarded")]}, gateways=["edge"]),
        service("web"),
        service("guarded"),
        workload("web-1", port, {"app": "web"}),
        workload("guarded-1", port, {"app": "guarded"}),
    )


@pytest.fixture(scope="module")
def gate() -> Gate:
    return Gate()


@pytest.fixture(scope="module")
def backend(gate: Gate) -> Iterator[Backend]:
    with Backend(reply=gate) as running:
        yield running
        gate.open.set()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory, backend: Backend, redis: RedisServer) -> Iterator[Asking]:
    folder = tmp_path_factory.mktemp("limits")
    jwks = development_jwks(folder / "state", folder / "jwks.json").read_text()
    with Up(folder, {"all.yaml": manifests(backend.port, jwks, redis.url)}) as up:
        found = Asking(up)
        yield found
        found.close()


@enforces(f"{LIMIT}scope", f"{LIMIT}requests", f"{LIMIT}per")
def test_two_gateways_share_it(asking: Asking) -> None:
    assert asking.statuses("together", 2) == [200, 200]
    assert asking.statuses("together", 3, port=8080) == [200, 200, 429]
    assert asking.statuses("together", 1) == [429]
    assert asking.statuses("free", 5) == [200] * 5


def test_what_answers_tell(asking: Asking) -> None:
    asking.statuses("together", 4)
    refused = asking.ask("together")
    assert (refused.headers["ratelimit-limit"], refused.headers["ratelimit-remaining"]) == ("4, 4;w=3600", "0")
    assert 800 < int(refused.headers["retry-after"]) <= 900
    line = eventually(lambda: [one for one in asking.logged(EDGE, "together") if one["status"] == 429])[0]
    assert (line["reason"], line["limit"]) == ("rate-limited", "shop/together/all")


@enforces(f"{LIMIT}by[].claim")
def test_by_a_claim(asking: Asking) -> None:
    alice, bob = (bearer(asking.up.token(ISSUER, sub=name)) for name in ("alice", "bob"))
    told = asking.ask("by-claim", authorization=alice)
    assert (told.headers["ratelimit-limit"], told.headers["ratelimit-remaining"]) == ("2, 2;w=3600", "1")
    assert asking.statuses("by-claim", 2, authorization=alice) == [200, 429]
    assert asking.statuses("by-claim", 3, authorization=bob) == [200, 200, 429]


def test_retries_are_counted_once(asking: Asking, backend: Backend) -> None:
    before = len(backend.seen)
    assert asking.statuses("retried", 1, x_fail="yes") == [503]
    assert len(backend.seen) == before + 3
    assert asking.statuses("retried", 2) == [200, 429]


@enforces(f"{LIMIT}shadow")
def test_a_limit_on_trial(asking: Asking) -> None:
    assert asking.statuses("watched", 4) == [200, 200, 200, 429]
    lines = eventually(lambda: [one for one in asking.logged(EDGE, "watched") if one["shadow_limits"]])
    assert lines[0]["shadow_limits"] == "shop/watched/trial"


def test_limits_of_both_sorts_at_one_route(asking: Asking) -> None:
    assert asking.statuses("mixed", 3) == [200, 200, 429], "the smaller one, which passes what nobody counts"


@enforces(f"{SPEC}selector.matchLabels")
def test_before_a_program(asking: Asking) -> None:
    assert asking.statuses("guarded", 3) == [200, 200, 429]


@enforces(f"{CONCURRENCY}name", f"{CONCURRENCY}max", f"{CONCURRENCY}match.methods")
def test_so_many_at_once(asking: Asking, gate: Gate) -> None:
    gate.open.clear()
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(asking.ask, "slots", method="PUT", x_hold="yes", address=f"127.0.0.{at}") for at in (3, 4)]
        for _ in held:
            assert gate.inside.acquire(timeout=60)
        refused = asking.ask("slots", method="PUT")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert asking.statuses("slots", 1) == [200], "of another method"
        gate.open.set()
        assert [one.result().status_code for one in held] == [200, 200]
    eventually(lambda: asking.statuses("slots", 3, method="PUT") == [200] * 3)
    line = eventually(lambda: [one for one in asking.logged(EDGE, "slots") if one["status"] == 429])[0]
    assert (line["reason"], line["limit"]) == ("concurrency-limited", "shop/slots/slots")


@enforces(f"{CONCURRENCY}by[].header")
def test_refusals_and_clients_that_leave_give_nothing_away(asking: Asking, gate: Gate) -> None:
    gate.open.clear()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(asking.ask, "slots-each", x_who="one", x_hold="yes", address="127.0.0.3")
        assert gate.inside.acquire(timeout=60)
        assert asking.statuses("slots-each", 3, x_who="one") == [429] * 3, "a refusal gives no slot back"
        assert asking.statuses("slots-each", 1, x_who="two") == [200]
        hurry = httpx.Timeout(30, read=3)
        with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=hurry, trust_env=False, verify=False) as hasty:
            asking.up.send(hasty, "GET", f"http://{host('slots-each')}", headers={"x-who": "three", "x-hold": "yes"})
        assert gate.inside.acquire(timeout=60)
        eventually(lambda: asking.statuses("slots-each", 1, x_who="three") == [200])
        gate.open.set()
        assert held.result().status_code == 200


@enforces(f"{CONCURRENCY}longest")
def test_a_lease_ends(asking: Asking, gate: Gate) -> None:
    gate.open.clear()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(asking.ask, "slots-short", x_hold="yes", address="127.0.0.3")
        assert gate.inside.acquire(timeout=60)
        eventually(lambda: asking.statuses("slots-short", 1) == [200])
        gate.open.set()
        assert held.result().status_code == 200


@enforces(f"{CONCURRENCY}shadow", f"{CONCURRENCY}onFailure")
def test_concurrency_on_trial(asking: Asking, gate: Gate) -> None:
    gate.open.clear()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(asking.ask, "slots-trial", x_hold="yes", address="127.0.0.3")
        assert gate.inside.acquire(timeout=60)
        assert asking.statuses("slots-trial", 1) == [200]
        gate.open.set()
        assert held.result().status_code == 200
    lines = eventually(lambda: [one for one in asking.logged(EDGE, "slots-trial") if one["shadow_limits"]])
    assert lines[0]["shadow_limits"] == "shop/slots-trial/trial"


@enforces(f"{SPEC}store.redis.secretName")
def test_redis_counts_for_both_gateways(asking: Asking, redis: RedisServer) -> None:
    assert asking.statuses("shared", 2) == [200, 200]
    assert asking.statuses("shared", 3, port=8080) == [200, 200, 429]
    assert redis.run("keys", "isthmus:limit:*")
    assert "sesame" not in asking.up.output


@enforces(f"{LIMIT}onFailure")
def test_redis_that_is_slow_or_gone(asking: Asking, redis: RedisServer) -> None:
    assert asking.statuses("closed", 1) == [200]
    assert asking.statuses("open", 2) == [200, 429]
    redis.hold()
    began = time.monotonic()
    assert asking.statuses("closed", 3) == [503] * 3
    assert asking.statuses("open", 3) == [200] * 3
    assert time.monotonic() - began < 60, "of six requests none hangs"
    redis.let_go()
    eventually(lambda: asking.statuses("closed", 1) == [200])
    redis.stop()
    assert asking.statuses("closed", 2) == [503] * 2
    assert asking.statuses("open", 2) == [200] * 2
    assert asking.statuses("by-header-free", 1) == [404]
    redis.start()
    eventually(lambda: asking.statuses("closed", 1) == [200])
    line = eventually(lambda: [one for one in asking.logged(EDGE, "closed") if one["status"] == 503])[0]
    assert line["reason"] == "limit-service-unavailable"


def _service(up: Up) -> int:
    """The process of the limit service."""
    for pid in children_of(up.process.pid):
        if "isthmus.limit.server" in arguments_of(pid):
            return pid
    raise AssertionError("it does not run")


@enforces(f"{LIMIT}onFailure")
def test_the_service_is_gone_for_a_moment(asking: Asking) -> None:
    within_a_day()
    assert asking.statuses("kept", 2) == [200, 200]
    found = _service(asking.up)
    os.kill(found, signal.SIGSTOP)
    assert asking.statuses("gone-closed", 1) == [503]
    assert asking.statuses("gone-open", 1) == [200]
    # What quotas use is written twice a second.
    os.kill(found, signal.SIGCONT)
    eventually(lambda: asking.statuses("gone-closed", 1) == [200])
    kept = asking.up.state / "limits" / "quotas.sqlite"
    eventually(lambda: (2,) in sqlite3.connect(kept).execute("SELECT used FROM quotas").fetchall())
    os.kill(found, signal.SIGKILL)
    eventually(lambda: asking.statuses("gone-closed", 1) == [200], 30)
    assert _service(asking.up) != found
    assert asking.statuses("kept", 2) == [200, 429]
    line = eventually(lambda: [one for one in asking.logged(EDGE, "gone-closed") if one["status"] == 503])[0]
    assert line["reason"] == "limit-service-unavailable"


@enforces(f"{LIMIT}per")
def test_quotas_survive_a_restart_of_everything(asking: Asking) -> None:
    """Runs last: it stops what the others use."""
    within_a_day()
    assert asking.statuses("day", 2) == [200, 200]
    assert asking.statuses("month", 2) == [200, 200]
    assert asking.statuses("shared-day", 2) == [200, 200]
    asking.up.stop()
    asking.close()
    asking.up.start()
    again = Asking(asking.up)
    assert again.statuses("day", 2) == [200, 429]
    assert again.statuses("month", 2) == [200, 429]
    assert again.statuses("shared-day", 2) == [200, 429]
    refused = again.ask("month")
    assert refused.headers["ratelimit-limit"] == "3, 3;w=2592000"
    line = eventually(lambda: [one for one in again.logged(EDGE, "month") if one["status"] == 429])[0]
    assert (line["reason"], line["limit"]) == ("quota-exhausted", "shop/month/monthly")
    again.close()
