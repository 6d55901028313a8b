from __future__ import annotations

import pytest

from isthmus.analyze.optional_token import CHECK
from tests.analyze.manifest import DATABASE, GATEWAY, ORDERS, access, found, tokens

TOKENS = tokens("jwtRules: [{issuer: 'https://auth.example.com'}]")
DEPLOYED = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: carts, namespace: shop}
spec: {template: {metadata: {labels: {app: carts}}}}
"""


def says(names: str, severity: str = "warning") -> str:
    return (
        f"1 {severity} ISM5002: a request without a token passes at {names}: "
        "no policy there asks for a principal or a claim"
    )


def test_nothing_asks_for_a_token() -> None:
    assert found(CHECK, TOKENS, ORDERS) == [says("shop/orders-1")]


@pytest.mark.parametrize(
    "asking",
    [
        "rules: [{from: [{source: {requestPrincipals: ['*']}}]}]",
        "rules: [{when: [{key: 'request.auth.claims[role]', values: [admin]}]}]",
        "action: DENY\nrules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]",
        "{}",
        "rules: [{to: [{operation: {paths: [/health]}}]}, {from: [{source: {requestPrincipals: ['*']}}]}]",
    ],
)
def test_one_rule_that_asks_is_enough(asking: str) -> None:
    assert found(CHECK, TOKENS, ORDERS, access(asking)) == []


@pytest.mark.parametrize(
    "not_asking",
    [
        "rules: [{to: [{operation: {paths: [/orders*]}}]}]",
        "action: DENY\nrules: [{when: [{key: 'request.auth.claims[role]', values: [banned]}]}]",
        "rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]",
        "action: AUDIT\nrules: [{from: [{source: {requestPrincipals: ['*']}}]}]",
    ],
)
def test_a_rule_that_takes_requests_without_a_token_does_not_ask(not_asking: str) -> None:
    assert found(CHECK, TOKENS, ORDERS, access(not_asking)) == [says("shop/orders-1")]


def test_callers_that_prove_an_identity_are_only_told_of() -> None:
    by_identity = access("rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]")
    assert found(CHECK, TOKENS, ORDERS, by_identity) == [says("shop/orders-1", "info")]


def test_a_dry_run_asks_for_nothing() -> None:
    dry = access("rules: [{from: [{source: {requestPrincipals: ['*']}}]}]").replace(
        "namespace: shop}", "namespace: shop, annotations: {istio.io/dry-run: 'true'}}"
    )
    assert found(CHECK, TOKENS, ORDERS, dry) == [says("shop/orders-1")]


def test_each_workload_is_asked_about() -> None:
    only_database = access(
        "selector: {matchLabels: {app: database}}\nrules: [{from: [{source: {requestPrincipals: ['*']}}]}]"
    )
    assert found(CHECK, TOKENS, ORDERS, DATABASE, only_database) == [says("shop/orders-1")]


def test_gateways_and_deployments_count() -> None:
    everywhere = tokens("jwtRules: [{issuer: 'https://auth.example.com'}]", "istio-system")
    assert found(CHECK, everywhere, GATEWAY, DEPLOYED) == [says("edge/edge, shop/carts")]


def test_rego_may_ask_for_one() -> None:
    head = "apiVersion: isthmus.dev/v1alpha1\nkind: RegoPolicy\nmetadata: {name: rego, namespace: shop}\nspec:\n"
    rego = f"{head}  selector: {{}}\n  rego: |\n    package envoy.authz\n    default allow := false\n"
    assert found(CHECK, TOKENS, ORDERS, rego) == []
    assert found(CHECK, TOKENS, ORDERS, f"{rego}  dryRun: true\n") == [says("shop/orders-1")]
