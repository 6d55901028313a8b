from __future__ import annotations

import pytest

from isthmus.analyze.claim_route import CHECK
from tests.analyze.manifest import GATEWAY, ORDERS, found, security

ROUTES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example.com]
  gateways: %s
  http:
    - match: [{headers: {"@request.auth.claims.realm.name": {exact: eu}}%s}]
      route: [{destination: {host: orders}}]
    - route: [{destination: {host: orders}}]
"""
RULE = "jwtRules: [{issuer: https://idp.example.com}]"


def told(gateways: str, *more: str, match: str = "") -> list[str]:
    return found(CHECK, ROUTES % (gateways, match), GATEWAY, ORDERS, *more)


def tokens(app: str, namespace: str) -> str:
    return security("RequestAuthentication", f"selector: {{matchLabels: {{app: {app}}}}}\n{RULE}", namespace)


def test_a_gateway_where_no_token_is_verified() -> None:
    assert told("[edge/edge]") == [
        "8 warning ISM5050: no RequestAuthentication selects gateway edge/edge: "
        "there, no request has the claim realm.name"
    ]
    assert told("[edge/edge]", tokens("orders", "shop")) == told("[edge/edge]")


@pytest.mark.parametrize("where", [("edge", "edge"), ("edge", "istio-system")])
def test_a_gateway_where_tokens_are_verified(where: tuple[str, str]) -> None:
    assert told("[edge/edge]", tokens(*where)) == []


def test_in_the_mesh_it_is_the_workload_that_calls() -> None:
    assert "no RequestAuthentication selects any workload:" in told("[mesh]", tokens("edge", "edge"))[0]
    assert told("[mesh]", tokens("orders", "shop")) == []


def test_only_where_the_match_holds() -> None:
    assert told("[edge/edge, mesh]", tokens("edge", "edge"), match=", gateways: [edge/edge]") == []
    assert "any workload" in told("[edge/edge, mesh]", tokens("edge", "edge"))[0]


def test_a_claim_that_must_not_be_there() -> None:
    text = (ROUTES % ("[edge/edge]", "")).replace("headers", "withoutHeaders")
    assert "ISM5050" in found(CHECK, text, GATEWAY, ORDERS)[0]


def test_routes_without_claims() -> None:
    text = (ROUTES % ("[edge/edge]", "")).replace("@request.auth.claims.realm.name", "x-realm")
    assert found(CHECK, text, GATEWAY, ORDERS) == []
