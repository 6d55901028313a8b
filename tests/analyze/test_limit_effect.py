from __future__ import annotations

import pytest

from isthmus.analyze.limit_effect import CHECK
from tests.analyze.limit import limits
from tests.analyze.manifest import ORDERS, found

CONSUMER = """\
apiVersion: isthmus.dev/v1alpha1
kind: Consumer
metadata: {name: mobile, namespace: shop}
spec: {plan: free}
"""


def told(text: str, *more: str) -> list[str]:
    return found(CHECK, text, ORDERS, *more)


def test_a_plan_that_nobody_has() -> None:
    text = limits("[{name: a, match: {plans: [gold]}, requests: 1, per: 1m}]")
    expected = '5 warning ISM5112: "a" can never refuse anybody: no Consumer has the plan gold'
    assert told(text, CONSUMER) == [expected]
    assert told(limits("[{name: a, match: {plans: [gold, free]}, requests: 1, per: 1m}]"), CONSUMER) == []


def test_one_that_is_always_reached_before() -> None:
    text = limits("[{name: narrow, requests: 60, per: 1m}, {name: wide, requests: 120, per: 1m}]")
    assert told(text) == ['5 warning ISM5112: "wide" can never refuse anybody: "narrow" is reached before']


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("", "by: [{address: true}]"),
        ("", "match: {methods: [POST]}"),
        ("by: [{header: x-a}]", "by: [{address: true}, {header: x-a}], match: {methods: [POST]}"),
        ("match: {methods: [GET, POST]}", "match: {methods: [POST]}, by: [{route: true}]"),
    ],
)
def test_what_counts_more_together_is_reached_before(narrow: str, wide: str) -> None:
    first, second = (f"{text}, " if text else "" for text in (narrow, wide))
    both = f"{{name: narrow, {first}requests: 60, per: 1m}}, {{name: wide, {second}requests: 1, per: 1s, burst: 70}}"
    (one,) = told(limits(f"[{both}]"))
    assert '"wide" can never refuse anybody' in one
    turned = both.replace("requests: 60", "requests: 61")
    assert told(limits(f"[{turned}]")) == []


@pytest.mark.parametrize(
    "other",
    [
        "requests: 2, per: 1s, burst: 10",
        "requests: 120, per: 1m, scope: GLOBAL",
        "requests: 100, per: day, scope: GLOBAL",
    ],
)
def test_others_have_their_use(other: str) -> None:
    assert told(limits(f"[{{name: narrow, requests: 60, per: 1m}}, {{name: wide, {other}}}]")) == []


def test_one_on_trial_stops_nobody() -> None:
    trial = "{name: narrow, requests: 60, per: 1m, shadow: true}"
    assert told(limits(f"[{trial}, {{name: wide, requests: 120, per: 1m}}]")) == []
