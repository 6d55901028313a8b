"""RateLimitPolicy: limits that each proxy counts by itself, on real Envoys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.limits import ISSUER, Asking, Gate, bearer, limit, limited, targeting, within_a_day
from tests.real.traffic import NAMESPACE, Manifest, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.up import Up, development_jwks, eventually, isthmus

pytestmark = pytest.mark.real

SPEC = "RateLimitPolicy.spec."
LIMIT = f"{SPEC}limits[]."
EDGE = "gateway~shop~edge"


CONSUMERS = {"shop/mobile": "free", "shop/web": "gold", "partners/mobile": "free"}
"""With their plans."""


def known(name: str, *limits: Manifest, **spec: Any) -> tuple[Manifest, ...]:
    """A host whose clients are known by their API keys."""
    where = {"targetRefs": [{"kind": "VirtualService", "name": name}], "methods": [{"apiKey": {}}]}
    spec = {"limits": list(limits), **spec} if limits else spec
    return *limited(name, **spec), ours("ClientAuthentication", name, where)


def slots(*by: Manifest, **more: Any) -> Manifest:
    return {"name": "slots", "max": 1, "by": list(by), **more}


def ours(kind: str, name: str, spec: Manifest, namespace: str = NAMESPACE) -> Manifest:
    return {**manifest(kind, name, spec, namespace), "apiVersion": "isthmus.dev/v1alpha1"}


def of_plan(plan: str, requests: int, **more: object) -> Manifest:
    return limit(plan, requests=requests, by=[{"consumer": True}], match={"plans": [plan]}, **more)


def manifests(port: int, jwks: str) -> str:
    rule = {"issuer": ISSUER, "jwks": jwks}
    retries = {"attempts": 2, "retryOn": "5xx", "perTryTimeout": "5s"}
    each_slot = routes(
        "slots-route",
        ["slots-route.example.com"],
        {"name": "a", "match": [{"uri": {"prefix": "/a"}}], "route": [to("web")]},
        {"name": "b", "route": [to("web")]},
        gateways=["edge"],
    )
    split = ((key.partition("/"), plan) for key, plan in CONSUMERS.items())
    consumers = [ours("Consumer", name, {"plan": plan}, namespace) for (namespace, _, name), plan in split]
    two_routes = routes(
        "sectioned",
        ["sectioned.example.com"],
        {"name": "narrow", "match": [{"uri": {"prefix": "/narrow"}}], "route": [to("web")]},
        {"name": "wide", "route": [to("web")]},
        gateways=["edge"],
    )
    each_route = routes(
        "each-route",
        ["each-route.example.com"],
        {"name": "a", "match": [{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/also-a"}}], "route": [to("web")]},
        {"name": "b", "route": [to("web")]},
        gateways=["edge"],
    )
    return dump(
        gateway("edge", server(80), server(8080, name="second")),
        gateway("whole", server(8081)),
        manifest(
            "RequestAuthentication", "tokens", {"selector": {"matchLabels": {"istio": "edge"}}, "jwtRules": [rule]}
        ),
        *limited("together", limits=[limit("all")]),
        *limited("by-address", limits=[limit("each", by=[{"address": True}])]),
        *limited("by-claim", limits=[limit("each", by=[{"claim": "sub"}])]),
        *limited("by-header", limits=[limit("each", by=[{"header": "X-Tenant"}])]),
        *limited("by-both", limits=[limit("each", by=[{"claim": "sub"}, {"header": "x-tenant"}])]),
        *limited("methods", limits=[limit("posts", match={"methods": ["POST", "PUT"]})]),
        *limited("burst", limits=[limit("all", requests=1, burst=3)]),
        *limited("back", limits=[limit("all", requests=4, per="1s", burst=1)]),
        *limited("shadow", limits=[limit("watched", requests=1, shadow=True), limit("all", requests=3)]),
        *limited("silent", limits=[limit("all", requests=1)], headers=False),
        *known("by-consumer", limit("each", by=[{"consumer": True}])),
        *known("by-tenant", limit("each", by=[{"tenant": True}])),
        *known("by-plan", limit("each", by=[{"plan": True}])),
        *known("plans", of_plan("free", 2), of_plan("gold", 3)),
        *known("quotas", of_plan("free", 2, per="day", scope="GLOBAL"), of_plan("gold", 3, per="day", scope="GLOBAL")),
        *(
            each
            for kind in ("consumer", "tenant", "plan")
            for each in known(f"slots-{kind}", concurrency=[slots({kind: True})])
        ),
        *known("slots-plans", concurrency=[slots(match={"plans": ["free"]})]),
        *limited("slots-address", concurrency=[slots({"address": True})]),
        *limited("slots-claim", concurrency=[slots({"claim": "sub"})]),
        each_slot,
        targeting("slots-route", concurrency=[slots({"route": True})]),
        *consumers,
        routes("retried", ["retried.example.com"], {"route": [to("web")], "retries": retries}, gateways=["edge"]),
        targeting("retried", limits=[limit("all")]),
        *limited("kept", limits=[limit("all")]),
        routes("free", ["free.example.com"], {"route": [to("web")]}, gateways=["edge"]),
        two_routes,
        targeting(
            "sectioned", {"kind": "VirtualService", "name": "sectioned", "sectionName": "narrow"}, limits=[limit("all")]
        ),
        each_route,
        targeting("each-route", limits=[limit("each", by=[{"route": True}])]),
        routes("ours", ["ours.example.com"], {"route": [to("web")]}, gateways=["whole"]),
        routes("closer", ["closer.example.com"], {"route": [to("web")]}, gateways=["whole"]),
        targeting("gateway", {"kind": "Gateway", "name": "whole"}, limits=[limit("all", requests=3)]),
        targeting("closer", limits=[limit("all", requests=1)]),
        manifest("RateLimitPolicy", "web", {"selector": {"matchLabels": {"app": "guarded"}}, "limits": [limit("all")]}),
        routes("guarded", ["guarded.example.com"], {"route": [to("guarded")]}, gateways=["edge"]),
        service("web"),
        service("guarded"),
        workload("web-1", port, {"app": "web"}),
        workload("guarded-1", port, {"app": "guarded"}),
    )


def denied(*paths: str) -> str:
    rule = {"to": [{"operation": {"paths": list(paths)}}]}
    selector = {"matchLabels": {"istio": "edge"}}
    return dump(manifest("AuthorizationPolicy", "denied", {"selector": selector, "action": "DENY", "rules": [rule]}))


@pytest.fixture(scope="module")
def gate() -> Gate:
    return Gate()


@pytest.fixture(scope="module")
def backend(gate: Gate) -> Iterator[Backend]:
    with Backend(reply=gate) as running:
        yield running
        gate.open.set()


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[Asking]:
    folder = tmp_path_factory.mktemp("limits")
    jwks = development_jwks(folder / "state", folder / "jwks.json").read_text()
    with Up(folder, {"all.yaml": manifests(backend.port, jwks), "deny.yaml": denied("/denied/a")}) as up:
        found = Asking(up)
        yield found
        found.close()


@enforces(
    f"{LIMIT}name",
    f"{LIMIT}requests",
    f"{LIMIT}per",
    f"{SPEC}targetRefs[].group",
    f"{SPEC}targetRefs[].kind",
    f"{SPEC}targetRefs[].name",
)
def test_more_than_that_is_refused(asking: Asking) -> None:
    assert asking.statuses("together", 3) == [200, 200, 429]
    assert asking.statuses("free", 4) == [200] * 4, "a route that no policy names"
    line = eventually(lambda: [one for one in asking.logged(EDGE, "together") if one["status"] == 429])[0]
    assert (line["details"], line["reason"]) == ("local_rate_limited", "rate-limited")


def test_what_a_refusal_tells(asking: Asking) -> None:
    asking.statuses("together", 3)
    refused = asking.ask("together")
    assert refused.status_code == 429
    told = {name: refused.headers[name] for name in ("ratelimit-limit", "ratelimit-remaining")}
    assert told == {"ratelimit-limit": "2", "ratelimit-remaining": "0"}
    assert 1700 < int(refused.headers["retry-after"]) <= 1800
    assert refused.headers["ratelimit-reset"] == refused.headers["retry-after"]


@enforces(f"{SPEC}headers")
def test_one_that_is_to_tell_nothing(asking: Asking) -> None:
    assert asking.ask("together").headers["x-ratelimit-limit"] == "2"
    allowed, refused = asking.ask("silent"), asking.ask("silent")
    assert (allowed.status_code, refused.status_code) == (200, 429)
    assert not [name for name in (*allowed.headers, *refused.headers) if "ratelimit-" in name or name == "retry-after"]


@enforces(f"{LIMIT}by[].address")
def test_by_address(asking: Asking) -> None:
    assert asking.statuses("by-address", 3) == [200, 200, 429]
    assert asking.statuses("by-address", 3, address="127.0.0.2") == [200, 200, 429]


@enforces(f"{LIMIT}by[].claim")
def test_by_a_claim_of_the_verified_token(asking: Asking) -> None:
    alice, bob = (bearer(asking.up.token(ISSUER, sub=name)) for name in ("alice", "bob"))
    assert asking.statuses("by-claim", 3, authorization=alice) == [200, 200, 429]
    assert asking.statuses("by-claim", 3, authorization=bob) == [200, 200, 429]
    assert asking.statuses("by-claim", 3) == [200, 200, 429], "all without a token are one"
    assert asking.statuses("by-claim", 1, authorization=f"{bob}x") == [401], "what does not verify counts nowhere"


@enforces(f"{LIMIT}by[].header")
def test_by_a_header(asking: Asking) -> None:
    assert asking.statuses("by-header", 3, x_tenant="one") == [200, 200, 429]
    assert asking.statuses("by-header", 3, x_tenant="two") == [200, 200, 429]
    assert asking.statuses("by-header", 3) == [200, 200, 429], "all without it are one"


def test_several_together(asking: Asking) -> None:
    alice, bob = (bearer(asking.up.token(ISSUER, sub=name)) for name in ("alice", "bob"))
    assert asking.statuses("by-both", 3, authorization=alice, x_tenant="one") == [200, 200, 429]
    assert asking.statuses("by-both", 3, authorization=alice, x_tenant="two") == [200, 200, 429]
    assert asking.statuses("by-both", 3, authorization=bob, x_tenant="one") == [200, 200, 429]


@enforces(f"{LIMIT}match.methods")
def test_by_method(asking: Asking) -> None:
    assert asking.statuses("methods", 4) == [200] * 4
    assert asking.statuses("methods", 2, method="POST") == [200, 200]
    assert asking.statuses("methods", 1, method="PUT") == [429], "one bucket for all of them"


@enforces(f"{LIMIT}burst")
def test_a_burst(asking: Asking) -> None:
    assert asking.statuses("burst", 4) == [200, 200, 200, 429]


def test_a_change_of_another_policy_fills_no_bucket(asking: Asking) -> None:
    assert asking.statuses("kept", 3) == [200, 200, 429]
    asking.up.write("deny.yaml", denied("/denied/a", "/denied/b"))
    eventually(lambda: asking.statuses("free", 1, "/denied/b") == [403])
    assert asking.statuses("kept", 1) == [429]


def test_tokens_come_back(asking: Asking) -> None:
    eventually(lambda: 429 in asking.statuses("back", 20))
    eventually(lambda: asking.ask("back").status_code == 200)


@enforces(f"{LIMIT}shadow")
def test_a_limit_on_trial_counts_and_refuses_nobody(asking: Asking) -> None:
    assert asking.statuses("shadow", 4) == [200, 200, 200, 429], "and hides no other"
    watched = 'envoy_http_local_rate_limit_rate_limited{envoy_local_http_ratelimit_prefix="isthmus_limit_shadow"} 2'
    assert watched in asking.metrics(EDGE).splitlines()


@pytest.fixture(scope="module")
def keys(asking: Asking) -> dict[str, str]:
    """An API key of each consumer, by ``namespace/name``."""

    def made(consumer: str) -> str:
        done = isthmus("consumer", "key", "create", consumer, "--state", str(asking.up.state), "-o", "json")
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["key"])

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CONSUMERS, pool.map(made, CONSUMERS), strict=True))


@enforces(f"{LIMIT}by[].consumer")
def test_by_consumer(asking: Asking, keys: dict[str, str]) -> None:
    for consumer in CONSUMERS:
        assert asking.statuses("by-consumer", 3, x_api_key=keys[consumer]) == [200, 200, 429]
    assert asking.statuses("by-consumer", 3) == [401] * 3, "who may not pass takes nobody's share"


@enforces(f"{LIMIT}by[].tenant")
def test_by_tenant(asking: Asking, keys: dict[str, str]) -> None:
    assert asking.statuses("by-tenant", 2, x_api_key=keys["shop/mobile"]) == [200, 200]
    assert asking.statuses("by-tenant", 1, x_api_key=keys["shop/web"]) == [429]
    assert asking.statuses("by-tenant", 3, x_api_key=keys["partners/mobile"]) == [200, 200, 429]


@enforces(f"{LIMIT}by[].plan")
def test_by_plan(asking: Asking, keys: dict[str, str]) -> None:
    assert asking.statuses("by-plan", 2, x_api_key=keys["shop/mobile"]) == [200, 200]
    assert asking.statuses("by-plan", 1, x_api_key=keys["partners/mobile"]) == [429], "of the same plan"
    assert asking.statuses("by-plan", 3, x_api_key=keys["shop/web"]) == [200, 200, 429]


@enforces(f"{LIMIT}match.plans")
def test_plans_have_limits_of_their_own(asking: Asking, keys: dict[str, str]) -> None:
    assert asking.statuses("plans", 4, x_api_key=keys["shop/web"]) == [200, 200, 200, 429], "gold"
    assert asking.statuses("plans", 3, x_api_key=keys["shop/mobile"]) == [200, 200, 429], "free"
    assert asking.statuses("plans", 2, x_api_key=keys["partners/mobile"]) == [200, 200], "free, another consumer"


@enforces(f"{LIMIT}match.plans")
def test_quotas_of_plans(asking: Asking, keys: dict[str, str]) -> None:
    within_a_day()
    assert asking.statuses("quotas", 4, x_api_key=keys["shop/web"]) == [200, 200, 200, 429], "gold"
    assert asking.statuses("quotas", 3, x_api_key=keys["shop/mobile"]) == [200, 200, 429], "free"
    line = eventually(lambda: [one for one in asking.logged(EDGE, "quotas") if one["status"] == 429])[0]
    assert (line["reason"], line["limit"], line["consumer"]) == ("quota-exhausted", "shop/quotas/gold", "web")


WHO: dict[str, tuple[str, str, str]] = {
    "consumer": ("shop/mobile", "shop/mobile", "shop/web"),
    "tenant": ("shop/mobile", "shop/web", "partners/mobile"),
    "plan": ("shop/mobile", "partners/mobile", "shop/web"),
    "plans": ("shop/mobile", "partners/mobile", "shop/web"),
    "address": ("127.0.0.3", "127.0.0.3", "127.0.0.4"),
    "claim": ("alice", "alice", "bob"),
    "route": ("/a", "/a", "/b"),
}
"""Who is under way, who is one more of the same, and who is another."""


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind, marks=enforces(f"{SPEC}concurrency[].{'match.plans' if kind == 'plans' else f'by[].{kind}'}")
        )
        for kind in WHO
    ],
)
def test_so_many_at_once_of_each(asking: Asking, gate: Gate, keys: dict[str, str], kind: str) -> None:
    def options(who: str) -> dict[str, str]:
        match kind:
            case "address":
                return {"address": who}
            case "route":
                return {"path": who}
            case "claim":
                return {"authorization": bearer(asking.up.token(ISSUER, sub=who))}
        return {"x_api_key": keys[who]}

    first, same, other = (options(who) for who in WHO[kind])
    held_by = {"address": "127.0.0.5", **first}
    gate.open.clear()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(asking.ask, f"slots-{kind}", x_hold="yes", **held_by)
        assert gate.inside.acquire(timeout=60)
        assert asking.ask(f"slots-{kind}", **same).status_code == 429
        assert asking.ask(f"slots-{kind}", **other).status_code == 200
        gate.open.set()
        assert held.result().status_code == 200
    eventually(lambda: asking.ask(f"slots-{kind}", **same).status_code == 200)


@enforces(f"{LIMIT}by[].route")
def test_by_route(asking: Asking) -> None:
    assert asking.statuses("each-route", 2, "/a") == [200, 200]
    assert asking.statuses("each-route", 1, "/also-a") == [429], "all ways to a route are one"
    assert asking.statuses("each-route", 3, "/b") == [200, 200, 429]


@enforces(f"{SPEC}targetRefs[].sectionName")
def test_one_route_alone(asking: Asking) -> None:
    assert asking.statuses("sectioned", 3, "/narrow") == [200, 200, 429]
    assert asking.statuses("sectioned", 4, "/wide") == [200] * 4


def test_the_most_specific_policy_holds(asking: Asking) -> None:
    assert asking.statuses("closer", 2, port=8081) == [200, 429]
    assert asking.statuses("ours", 4, port=8081) == [200, 200, 200, 429]


@enforces(f"{SPEC}selector.matchLabels")
def test_before_a_program(asking: Asking) -> None:
    assert asking.statuses("guarded", 3) == [200, 200, 429]


def test_retries_take_one_token(asking: Asking, backend: Backend) -> None:
    """The gateway asks the program again, itself only once."""
    before = len(backend.seen)
    assert asking.statuses("retried", 1, x_fail="yes") == [503]
    assert len(backend.seen) == before + 3
    assert asking.statuses("retried", 2) == [200, 429]
