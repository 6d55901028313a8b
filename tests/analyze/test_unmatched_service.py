from __future__ import annotations

from isthmus.analyze.unmatched_service import CHECK
from tests.analyze.manifest import ORDERS, found


def test_a_selector_that_matches_nobody() -> None:
    assert found(CHECK, ORDERS.replace("labels: {app: orders}", "labels: {app: ordrs}")) == [
        "1 warning ISM5011: no workload of namespace shop has the labels app=orders: the service answers 503"
    ]


def test_a_selector_that_matches_is_good() -> None:
    assert found(CHECK, ORDERS) == []


def test_without_a_selector_the_endpoints_are_elsewhere() -> None:
    assert found(CHECK, ORDERS.replace("  selector: {app: orders}\n", "")) == []
