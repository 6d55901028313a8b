from __future__ import annotations

from isthmus.analyze.plaintext_peer import CHECK
from tests.analyze.manifest import GATEWAY, ORDERS, STRICT, access, found

NOT_NAMED = access("rules: [{from: [{source: {notNamespaces: [untrusted]}}]}]")
DENIED = access("action: DENY\nrules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]")
SAID = "5 warning ISM5003: shop/orders-1 also takes plaintext, whose callers have no identity: this rule lets them in"


def test_who_is_nobody_is_not_in_the_namespace_either() -> None:
    assert found(CHECK, NOT_NAMED, ORDERS) == [SAID]


def test_a_denied_caller_comes_again_in_plaintext() -> None:
    (only,) = found(CHECK, DENIED, ORDERS)
    assert only.endswith("this rule does not keep them out")


def test_strict_leaves_no_plaintext() -> None:
    assert found(CHECK, NOT_NAMED, DENIED.replace("name: it", "name: other"), ORDERS, STRICT) == []


def test_one_port_that_takes_plaintext_is_enough() -> None:
    port = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: port, namespace: shop}
spec: {selector: {matchLabels: {app: orders}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: PERMISSIVE}}}
"""
    assert found(CHECK, NOT_NAMED, ORDERS, STRICT, port) == [SAID]


def test_rules_that_fail_closed_are_good() -> None:
    allowed = access("rules: [{from: [{source: {namespaces: [shop]}}]}]")
    denied = access("action: DENY\nrules: [{from: [{source: {notNamespaces: [shop]}}]}]").replace(
        "name: it", "name: two"
    )
    assert found(CHECK, allowed, denied, ORDERS) == []


def test_a_gateway_has_no_mode() -> None:
    assert found(CHECK, access("rules: [{from: [{source: {notNamespaces: [shop]}}]}]", "edge"), GATEWAY) == []
