from __future__ import annotations

from isthmus.analyze.deny_tcp import CHECK
from tests.analyze.manifest import DATABASE, ORDERS, access, found


def test_an_http_rule_closes_the_database() -> None:
    assert found(
        CHECK, access("action: DENY\nrules: [{to: [{operation: {methods: [DELETE]}}]}]"), DATABASE, ORDERS
    ) == [
        "6 warning ISM5004: this rule asks only about HTTP, which plain TCP does not have: "
        "it denies everything at shop/database-1 port 5432"
    ]


def test_a_rule_for_other_ports_does_not() -> None:
    rule = 'action: DENY\nrules: [{to: [{operation: {methods: [DELETE], ports: ["8080"]}}]}]'
    assert found(CHECK, access(rule), DATABASE) == []


def test_what_is_left_of_a_rule_may_still_choose() -> None:
    rule = "action: DENY\nrules: [{from: [{source: {namespaces: [edge]}}], to: [{operation: {methods: [DELETE]}}]}]"
    assert found(CHECK, access(rule), DATABASE) == []


def test_to_deny_everything_is_meant() -> None:
    assert found(CHECK, access("action: DENY\nrules: [{}]"), DATABASE) == []


def test_http_ports_and_allow_rules_are_good() -> None:
    assert found(CHECK, access("action: DENY\nrules: [{to: [{operation: {methods: [DELETE]}}]}]"), ORDERS) == []
    assert found(CHECK, access("rules: [{to: [{operation: {methods: [GET]}}]}]"), DATABASE) == []
