from __future__ import annotations

import pytest

from isthmus.kinds.shape.host import full_host, hint, is_ip, name_problem, wildcard_problem
from isthmus.model.settings import Settings


@pytest.mark.parametrize(
    ("written", "full"),
    [
        ("orders", "orders.shop.svc.cluster.local"),
        ("Orders", "orders.shop.svc.cluster.local"),
        ("orders.other", "orders.other"),
        ("orders.shop.svc.cluster.local.", "orders.shop.svc.cluster.local"),
        ("Shop.Example.com", "shop.example.com"),
        ("*", "*"),
        ("*.example.com", "*.example.com"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
    ],
)
def test_what_a_host_means(written: str, full: str) -> None:
    assert full_host(written, "shop", Settings()) == full


def test_the_service_domain_completes_a_short_name() -> None:
    assert full_host("orders", "shop", Settings(service_domain="mesh.local")) == "orders.shop.mesh.local"


@pytest.mark.parametrize("name", ["a", "a.b.", "a-b.c_d", "10.0.0.1", "fe80::1", "a" * 63, "1.example.com"])
def test_good_names(name: str) -> None:
    assert name_problem(name) is None
    assert wildcard_problem(name) is None


@pytest.mark.parametrize(
    "name", ["", "a..b", "-a", "a-", "a b", "a" * 64, ".a", "a/b", "a:80", ".".join(["abcdefg"] * 40)]
)
def test_bad_names(name: str) -> None:
    assert name_problem(name)
    assert wildcard_problem(name)


@pytest.mark.parametrize(("name", "good"), [("*", True), ("*.a.b", True), ("*a.b", False), ("a.*", False)])
def test_wildcards(name: str, good: bool) -> None:
    assert (wildcard_problem(name) is None) is good
    assert name_problem(name)


def test_a_wildcard_before_an_address_is_no_host() -> None:
    assert wildcard_problem("*.10.0.0.1")


def test_hints() -> None:
    assert hint("cart", ["carts", "users"]) == ' (did you mean "carts"?)'
    assert hint("cart", ["users"]) == ""


def test_addresses() -> None:
    assert is_ip("::1")
    assert not is_ip("localhost")
