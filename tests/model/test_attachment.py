"""Of the policies of one kind the most specific holds, whole."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from isthmus.diag import Origin, Ref, Source
from isthmus.model.attachment import (
    Attachment,
    RoutePlace,
    Specificity,
    Target,
    TargetKind,
    distinct,
    most_specific,
)
from isthmus.model.selector import Scope

PLACE = RoutePlace("shop/edge", "https", "shop/orders", "read")
LABELS = {"app": "edge"}
ORIGIN = Origin(Ref("Policy", "shop", "one"), Source("a.yaml", 1, 1))
MESH = Attachment(Scope(None))
NAMESPACE = Attachment(Scope("shop"))
EDGE_LABELS = Attachment(Scope("shop", (("app", "edge"),)))


def at(kind: TargetKind, name: str, section: str | None = None, namespace: str = "shop") -> Attachment:
    return Attachment(None, (Target(kind, namespace, name, section),))


GATEWAY = at(TargetKind.GATEWAY, "edge")
SERVER = at(TargetKind.GATEWAY, "edge", "https")
TABLE = at(TargetKind.VIRTUAL_SERVICE, "orders")
ROUTE = at(TargetKind.VIRTUAL_SERVICE, "orders", "read")


@dataclass(frozen=True, slots=True)
class Policy:
    name: str
    attachment: Attachment
    namespace: str = "shop"
    origin: Origin = ORIGIN


def holding(*attachments: Attachment, place: RoutePlace | None = PLACE) -> list[int]:
    """Which of the policies hold, by their position."""
    policies = [Policy(str(index), attachment) for index, attachment in enumerate(attachments)]
    return [int(policy.name) for policy in most_specific(policies, ("shop",), LABELS, place)]


def test_each_is_more_specific_than_the_one_before() -> None:
    levels = (MESH, NAMESPACE, EDGE_LABELS, GATEWAY, SERVER, TABLE, ROUTE)
    found = [one.at_route(PLACE) if one.scope is None else one.at_proxy(("shop",), LABELS) for one in levels]
    assert found == list(Specificity)
    for known in range(1, len(levels) + 1):
        assert holding(*levels[:known]) == [known - 1]
        assert holding(*reversed(levels[:known])) == [0]


def test_equals_are_united_in_order() -> None:
    assert holding(TABLE, GATEWAY, TABLE, NAMESPACE) == [0, 2]
    assert holding(NAMESPACE, MESH, NAMESPACE) == [0, 2]


@pytest.mark.parametrize(
    "elsewhere",
    [
        at(TargetKind.GATEWAY, "edge", namespace="other"),
        at(TargetKind.GATEWAY, "other"),
        at(TargetKind.GATEWAY, "edge", "http"),
        at(TargetKind.VIRTUAL_SERVICE, "carts"),
        at(TargetKind.VIRTUAL_SERVICE, "orders", "write"),
        at(TargetKind.VIRTUAL_SERVICE, "edge"),
        Attachment(Scope("other")),
        Attachment(Scope("shop", (("app", "other"),))),
        Attachment(),
    ],
)
def test_what_is_about_something_else(elsewhere: Attachment) -> None:
    assert holding(elsewhere) == []
    assert holding(elsewhere, MESH) == [1]


def test_several_targets_are_as_specific_as_the_closest() -> None:
    both = Attachment(None, (*GATEWAY.targets, *ROUTE.targets))
    assert both.at_route(PLACE) is Specificity.ROUTE
    assert both.at_route(RoutePlace("shop/edge", "https", "shop/orders", "write")) is Specificity.GATEWAY


def test_names_say_nothing_of_a_proxy_and_labels_nothing_of_a_route() -> None:
    assert holding(GATEWAY, place=None) == []
    assert GATEWAY.at_proxy(("shop",), LABELS) is None
    assert NAMESPACE.at_route(PLACE) is None
    assert holding(GATEWAY, place=RoutePlace("shop/edge", "https")) == [0]


def test_distinct_goes_by_the_object() -> None:
    one, same = Policy("a", MESH), Policy("a", MESH)
    assert [id(policy) for policy in distinct((one, same, one))] == [id(one), id(same)]
