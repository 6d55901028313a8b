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
        (AT_ROUTES, "edge/edge for shop/shop", tokens(RULE, "edge")),
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


CONSUMERS = "{name: k, by: [{consumer: true}], requests: 1, per: 1m}"
FREE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: free, namespace: shop}
spec:
  hosts: [shop.example.com]
  gateways: [edge/edge]
  http: [{name: open, match: [{uri: {prefix: /free}}], route: [{destination: {host: orders}}]}]
"""


def clients(attached: str, method: str, name: str = "clients") -> str:
    head = f"apiVersion: isthmus.dev/v1alpha1\nkind: ClientAuthentication\nmetadata: {{name: {name}, namespace: shop}}"
    return f"{head}\nspec:\n  {attached}\n  methods: [{{{method}}}]\n"


def test_a_client_authentication_that_is_about_something_else() -> None:
    keys, at_free = "apiKey: {}", AT_ROUTES.replace("name: shop", "name: free")
    for limit, told_of in ((CONSUMERS, "the consumer"), (CLAIM, "the claim sub")):
        for elsewhere in (at_free, WORKLOADS):
            (one,) = told(limits(f"[{limit}]", AT_ROUTES), FREE, clients(elsewhere, keys))
            assert f"counts by {told_of}, and no" in one
            assert "at edge/edge for shop/shop: all clients share one bucket" in one
    assert told(limits(f"[{CONSUMERS}]", AT_ROUTES), FREE, clients(AT_ROUTES, keys)) == []
    assert told(limits(f"[{CONSUMERS}]", WORKLOADS), clients("selector: {}", keys)) == []


def test_a_method_that_does_not_tell_it() -> None:
    jwt = "jwt: {issuers: [https://idp.example.com]}"
    (one,) = told(limits(f"[{CONSUMERS}]", AT_ROUTES), clients(AT_ROUTES, jwt))
    assert "no ClientAuthentication with API keys or certificates finds out who asks" in one
    assert told(limits(f"[{CLAIM}]", AT_ROUTES), clients(AT_ROUTES, jwt)) == []
    assert len(told(limits(f"[{CLAIM}]", AT_ROUTES), clients(AT_ROUTES, "apiKey: {}"))) == 1


def test_a_limit_of_a_policy_that_is_as_specific_holds_too() -> None:
    beside = limits(f"[{ADDRESS}]", AT_ROUTES).replace("name: it", "name: beside")
    assert told(limits(f"[{HEADER}]", AT_ROUTES), beside) == []
    behind = beside.replace("name: shop}]", "name: free}]")
    assert len(told(limits(f"[{HEADER}]", AT_ROUTES), FREE, behind)) == 1


def test_a_limit_of_other_requests_holds_nobody() -> None:
    posts = ADDRESS.replace("requests", "match: {methods: [POST]}, requests")
    assert len(told(limits(f"[{HEADER}, {posts}]", AT_ROUTES))) == 1
    both = HEADER.replace("requests", "match: {methods: [POST]}, requests")
    assert told(limits(f"[{both}, {posts}]", AT_ROUTES)) == []


def test_a_policy_that_holds_nowhere() -> None:
    general = limits(f"[{HEADER}, {CLAIM}]", "selector: {}").replace("name: it", "name: general")
    whole = "{name: all, requests: 1, per: 1m}"
    assert told(general, limits(f"[{whole}]", WORKLOADS)) == [], "a more specific one stands in its place"
