from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.model.offer import (
    GatewayOffer,
    OfferedPort,
    Scope,
    ScopeKind,
    SidecarOffer,
    offer_from_json,
    offer_to_json,
)
from isthmus.model.world import Address

SIDECAR = SidecarOffer(
    "shop", "orders", "10.0.0.2", "/run/isthmus", 15001, {"v": "1", "app": "orders"}, (OfferedPort("http", 8080, 9000),)
)
ORDERS = Scope(ScopeKind.SIDECAR, "shop", "orders", (("app", "orders"), ("v", "1")))


@pytest.mark.parametrize(
    "text",
    ["sidecar:shop/orders", "sidecar:shop/orders?app=orders&v=1", "gateway:shop/edge", "workload-group:shop/vms"],
)
def test_a_scope_is_written_and_read(text: str) -> None:
    assert str(Scope.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "sidecar", "sidecar:shop", "sidecar:/orders", "sidecar:shop/", "pod:shop/x", "sidecar:shop/orders?app",
     "sidecar:shop/orders?=orders", "gateway:shop/edge?app=edge", "workload-group:shop/vms?app=x"],
)  # fmt: skip
def test_what_is_no_scope(text: str) -> None:
    with pytest.raises(ValueError, match=r"scope|labels|ScopeKind"):
        Scope.parse(text)


def test_a_node_may_be_what_it_was_let_in_as_with_these_labels_or_fewer() -> None:
    assert SIDECAR.scope == ORDERS == Scope.parse("sidecar:shop/orders?v=1&app=orders")
    assert ORDERS.allows(SIDECAR.scope)
    assert ORDERS.allows(replace(SIDECAR, labels={}).scope)
    assert ORDERS.allows(replace(SIDECAR, labels={"app": "orders"}).scope)
    for labels in ({"app": "payments"}, {"app": "orders", "more": "x"}):
        assert not ORDERS.allows(replace(SIDECAR, labels=labels).scope)
    assert not Scope.parse("sidecar:shop/orders").allows(SIDECAR.scope)
    for other in (replace(SIDECAR, namespace="bank"), replace(SIDECAR, service_account="web")):
        assert not ORDERS.allows(other.scope)
    assert not ORDERS.allows(replace(SIDECAR, group="orders").scope)
    assert not ORDERS.allows(GatewayOffer("shop", "orders", "10.0.0.2", "/run/isthmus").scope)


def test_the_labels_of_a_group_are_its_own() -> None:
    member = replace(SIDECAR, group="vms")
    assert Scope.parse("workload-group:shop/vms").allows(member.scope)


def test_an_offer_is_written_and_read() -> None:
    assert offer_from_json(offer_to_json(SIDECAR)) == SIDECAR


@pytest.mark.parametrize("host", ["10.0.0.1", "fd00::1", "fe80::1%eth0", "plane", "plane_1.example.com."])
def test_how_a_machine_calls_the_control_plane(host: str) -> None:
    offer = replace(SIDECAR, control_plane=Address(host, 15012))
    assert offer_from_json(offer_to_json(offer)) == offer


@pytest.mark.parametrize(
    "offer",
    [
        *(replace(SIDECAR, control_plane=Address(host, 15012))
          for host in ("a\ud800", "", "a b", "a..b", "/run/other.sock", "a\n", "x" * 64, "a." * 200)),
        replace(SIDECAR, runtime="/run/\ud800"),
        replace(SIDECAR, runtime="/run/\0"),
        replace(SIDECAR, namespace="shop\ud800"),
        replace(SIDECAR, labels={"app": "x" * 1000}),
    ],
)  # fmt: skip
def test_what_no_bootstrap_and_no_terminal_could_hold_is_no_offer(offer: SidecarOffer) -> None:
    with pytest.raises(ValueError, match=r"printable|address") as refused:
        offer_from_json(offer_to_json(offer))
    str(refused.value).encode()
