from __future__ import annotations

import pytest

from isthmus.analyze.limit_key import CHECK
from tests.analyze.limit import limits
from tests.analyze.manifest import GATEWAY, ORDERS, ROUTES, found, tokens

ADDRESS = "{name: a, by: [{address: true}], requests: 1, per: 1m}"
HEADER = "{name: h, by: [{header: x-tenant}], requests: 1, per: 1m}"
CLAIM = "{name: c, by: [{claim: sub}], requests: 1, per: 1m}"
RULE = "jwtRules: [{issuer: https://idp.example.com}]"
WORKLOADS = "selector: {matchLabels: {app: orders}}"
AT_ROUTES = "targetRefs: [{kind: VirtualService, name: shop}]"


def told(text: str, *more: str) -> list[str]:
    return found(CHECK, text, GATEWAY, ORDERS, ROUTES, *more)


def test_a_header_alone() -> None:
    assert told(limits(f"[{HEADER}]")) == [
        '5 warning ISM5111: "h" counts by the header "x-tenant", in which clients write what they like: '
        "no other limit holds them"
    ]
    assert told(limits(f"[{HEADER}, {ADDRESS}]", AT_ROUTES)) == []


def test_one_on_trial_holds_nobody() -> None:
    trial = ADDRESS.replace("requests", "shadow: true, requests")
    assert len(told(limits(f"[{HEADER}, {trial}]", AT_ROUTES))) == 1


def test_an_address_that_callers_say() -> None:
    assert told(limits(f"[{ADDRESS}]", WORKLOADS)) == [
        '5 warning ISM5114: "a" counts by address before shop/orders-1: '
        "there the caller says in X-Forwarded-For whose it is"
    ]
    assert told(limits(f"[{ADDRESS}]", "targetRefs: [{kind: VirtualService, name: shop}]")) == []


@pytest.mark.parametrize(
    ("attached", "where", "verified"),
    [
        (WORKLOADS, "shop/orders-1", tokens(f"{WORKLOADS}\n{RULE}")),
        (AT_ROUTES, "edge/edge", tokens(RULE, "edge")),
        ("{}", "shop/orders-1", tokens(RULE)),
    ],
)
def test_a_claim_where_no_token_is_verified(attached: str, where: str, verified: str) -> None:
    text = limits(f"[{CLAIM}]", attached)
    assert told(text) == [
        f'5 warning ISM5110: "c" counts by the claim sub, and no RequestAuthentication verifies a token at {where}: '
        "all clients share one bucket"
    ]
    assert told(text, verified) == []


@pytest.mark.parametrize("key", ["consumer", "tenant", "plan"])
def test_consumers_that_nobody_knows(key: str) -> None:
    (one,) = told(limits(f"[{{name: k, by: [{{{key}: true}}], requests: 1, per: 1m}}]"))
    assert f"counts by the {key}, and no ClientAuthentication" in one


def test_plans_that_nobody_knows() -> None:
    (one,) = told(limits("[{name: k, match: {plans: [free]}, requests: 1, per: 1m}]"))
    assert "counts by the plan" in one
