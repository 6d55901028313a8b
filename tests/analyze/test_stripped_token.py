from __future__ import annotations

from isthmus.analyze.stripped_token import CHECK
from tests.analyze.manifest import DATABASE, GATEWAY, ORDERS, ROUTES, found, tokens

AT_GATEWAY = tokens("jwtRules:\n  - issuer: https://auth.example.com", "edge")
AT_ORDERS = tokens("selector: {matchLabels: {app: orders}}\njwtRules: [{issuer: 'https://auth.example.com'}]")


def test_the_token_does_not_arrive() -> None:
    assert found(CHECK, AT_GATEWAY, AT_ORDERS, GATEWAY, ROUTES, ORDERS) == [
        '6 warning ISM5006: tokens of "https://auth.example.com" are taken off here (forwardOriginalToken is not set) '
        "and wanted again by shop/orders-1"
    ]


def test_a_forwarded_token_arrives() -> None:
    forwarding = AT_GATEWAY + "      forwardOriginalToken: true\n"
    assert found(CHECK, forwarding, AT_ORDERS, GATEWAY, ROUTES, ORDERS) == []


def test_another_issuer_is_another_matter() -> None:
    assert found(CHECK, AT_GATEWAY, AT_ORDERS.replace("auth.", "other."), GATEWAY, ROUTES, ORDERS) == []


def test_a_workload_that_the_gateway_does_not_lead_to() -> None:
    elsewhere = AT_ORDERS.replace("app: orders", "app: database")
    assert found(CHECK, AT_GATEWAY, elsewhere, GATEWAY, ROUTES, ORDERS, DATABASE) == []


def test_the_workload_alone_may_take_the_token_off() -> None:
    assert found(CHECK, AT_ORDERS, GATEWAY, ROUTES, ORDERS) == []
