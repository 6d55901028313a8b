from __future__ import annotations

from datetime import timedelta

import pytest
from security_manifest import SHOP, Applied, applied, origin

from isthmus.kinds.rate_limit_policy import KIND, NO_STORE, STORE_UNUSED
from isthmus.model.limit import Concurrency, Key, KeyKind, LimitScope, Period, Quota, Rate, RateLimitPolicy
from isthmus.model.mesh import Mesh, SecretRef
from isthmus.model.selector import Scope

HOUR = timedelta(hours=1)


def document(spec: str, mesh: Mesh = SHOP) -> Applied:
    """``spec`` stands on line 4."""
    head = "apiVersion: isthmus.dev/v1alpha1\nkind: RateLimitPolicy\nmetadata: {name: p, namespace: shop}\n"
    return applied(KIND, f"{head}spec: {spec}\n", mesh)


def policy(spec: str) -> RateLimitPolicy:
    done = document(spec)
    assert done.found == []
    (found,) = done.mesh.policies.limits
    assert isinstance(found, RateLimitPolicy)
    return found


def codes(done: Applied) -> list[str]:
    return [" ".join(line.split()[1:3]) for line in done.found]


def limit(fields: str) -> str:
    return f"{{limits: [{{name: a, {fields}}}]}}"


def test_what_is_said() -> None:
    found = policy(
        "{selector: {matchLabels: {app: orders}}, headers: false, limits: [{name: per-user, requests: 10, per: 1h, "
        "burst: 3, by: [{claim: sub}, {header: X-Tenant}], match: {methods: [GET, GET], plans: [free]}, "
        "scope: GLOBAL, shadow: true, onFailure: ALLOW}]}"
    )
    (one,) = found.limits
    assert found.attachment.scope == Scope("shop", (("app", "orders"),))
    assert (found.key, found.headers, found.store) == ("shop/p", False, None)
    assert found.id_of(one) == "shop/p/per-user"
    assert one.amount == Rate(10, HOUR, 3)
    assert one.by == (Key(KeyKind.CLAIM, "sub"), Key(KeyKind.HEADER, "x-tenant"))
    assert (one.methods, one.plans) == (("GET",), ("free",))
    assert (one.scope, one.shadow, one.fail_open) == (LimitScope.GLOBAL, True, True)
    assert one.origin.source.line == 4


def test_what_need_not_be_said() -> None:
    found = policy(limit("requests: 10, per: minute"))
    (one,) = found.limits
    assert one.amount == Rate(10, timedelta(minutes=1), 10)
    assert (one.by, one.methods, one.plans, one.scope) == ((), (), (), LimitScope.LOCAL)
    assert (one.shadow, one.fail_open, found.headers) == (False, False, True)


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("second", Rate(1, timedelta(seconds=1), 1)),
        ("hour", Rate(1, HOUR, 1)),
        ("50ms", Rate(1, timedelta(milliseconds=50), 1)),
        ("24h", Rate(1, timedelta(days=1), 1)),
        ("day", Quota(1, Period.DAY)),
        ("month", Quota(1, Period.MONTH)),
    ],
)
def test_per(written: str, amount: object) -> None:
    assert policy(limit(f"requests: 1, per: {written}, scope: GLOBAL")).limits[0].amount == amount


def test_each_key() -> None:
    entries = "{address: true}, {consumer: true}, {plan: true}, {route: true}, {claim: org}"
    found = policy(limit(f"requests: 1, per: 1s, by: [{entries}]")).limits[0]
    assert [key.kind.value for key in found.by] == ["address", "consumer", "plan", "route", "claim"]
    assert not found.early
    assert policy(limit("requests: 1, per: 1s, by: [{tenant: true}]")).limits[0].by == (Key(KeyKind.TENANT),)
    assert policy(limit("requests: 1, per: 1s, by: [{address: true}, {header: x-a}]")).limits[0].early


def test_concurrency() -> None:
    found = policy("{concurrency: [{name: a, max: 3}, {name: b, max: 1, longest: 90s, onFailure: ALLOW}]}")
    assert [one.amount for one in found.limits] == [
        Concurrency(3, timedelta(minutes=5)),
        Concurrency(1, timedelta(seconds=90)),
    ]
    assert [one.scope for one in found.limits] == [LimitScope.GLOBAL] * 2
    assert [one.fail_open for one in found.limits] == [False, True]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{}", "limits or concurrency is needed"),
        ("{limits: []}", "at least 1 entry"),
        (limit("requests: 0, per: 1s"), "at least 1"),
        (limit("requests: 1, per: 10ms"), "50ms to 24h"),
        (limit("requests: 1, per: 25h"), "50ms to 24h"),
        (limit("requests: 1, per: week"), "neither a duration"),
        (limit("requests: 1, per: day"), "needs scope: GLOBAL"),
        (limit("requests: 1, per: day, scope: GLOBAL, burst: 2"), "has no burst"),
        (limit("requests: 1, per: 1s, onFailure: ALLOW"), "only for scope: GLOBAL"),
        (limit("requests: 2000000, per: 1s"), "cannot be counted"),
        (limit("requests: 1, per: 1s, by: [{}]"), "exactly one of"),
        (limit("requests: 1, per: 1s, by: [{address: true, route: true}]"), "exactly one of"),
        (limit("requests: 1, per: 1s, by: [{address: false}]"), "false says nothing"),
        (limit("requests: 1, per: 1s, by: [{header: Authorization}]"), "holds a secret"),
        (limit("requests: 1, per: 1s, by: [{header: 'a b'}]"), "is not the name of a header"),
        (limit("requests: 1, per: 1s, by: [{header: a}, {header: b}]"), "only one header"),
        (limit("requests: 1, per: 1s, by: [{claim: a}, {claim: a}]"), "twice"),
        (limit("requests: 1, per: 1s, by: [{claim: ''}]"), "a claim has a name"),
        (limit("requests: 1, per: 1s, by: [{consumer: true}, {tenant: true}]"), "consumer alone says the same"),
        (limit("requests: 1, per: 1s, match: {methods: [get]}"), "not a method"),
        (limit("requests: 1, per: 1s, match: {plans: ['']}"), "a plan has a name"),
        ("{limits: [{name: A, requests: 1, per: 1s}]}", "small letters"),
        ("{limits: [{name: a, requests: 1, per: 1s}], concurrency: [{name: a, max: 1}]}", 'another limit named "a"'),
        ("{concurrency: [{name: a, max: 1, longest: 500ms}]}", "at least 1s"),
        ("{concurrency: [{name: a, max: 1, scope: LOCAL}]}", 'no field "scope"'),
    ],
)
def test_what_cannot_be(spec: str, said: str) -> None:
    done = document(spec)
    assert not done.mesh.policies.limits
    assert any(said in line for line in done.found), done.found


def with_secret(*keys: str) -> Mesh:
    secret = SecretRef("redis", "shop", frozenset(keys), "digest", origin("Secret"))
    return Mesh(SHOP.settings, secrets={secret.key: secret}, workloads=SHOP.workloads, gateways=SHOP.gateways)


STORE = "store: {redis: {secretName: redis}}"
COUNTED = f"{{{STORE}, limits: [{{name: a, requests: 1, per: 1s, scope: GLOBAL}}]}}"


def test_a_store() -> None:
    done = document(COUNTED, with_secret("url"))
    assert done.found == []
    (found,) = done.mesh.policies.limits
    assert isinstance(found, RateLimitPolicy)
    assert found.store == "shop/redis"


@pytest.mark.parametrize(("mesh", "said"), [(SHOP, "is not there"), (with_secret("uri"), 'has no key "url"')])
def test_a_store_that_is_not_there(mesh: Mesh, said: str) -> None:
    done = document(COUNTED, mesh)
    assert codes(done) == [f"error {NO_STORE.id}"]
    assert said in done.found[0]
    assert "is refused" in done.found[0]
    assert "is let through" in document(COUNTED.replace("GLOBAL", "GLOBAL, onFailure: ALLOW"), mesh).found[0]
    assert done.mesh.policies.limits


def test_a_store_that_nothing_is_counted_in() -> None:
    done = document(f"{{{STORE}, limits: [{{name: a, requests: 1, per: 1s}}]}}", with_secret("url"))
    assert codes(done) == [f"warning {STORE_UNUSED.id}"]


def test_targets_that_are_not_there() -> None:
    done = document("{targetRefs: [{kind: VirtualService, name: shop}], limits: [{name: a, requests: 1, per: 1s}]}")
    assert codes(done) == ["error ISM2292"]
