from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from isthmus.model.cluster import Service
from isthmus.xds.virtual_address import virtual_addresses

from .making import compiled, service

ALLOCATED = IPv4Network("240.240.0.0/16")


def some(*hosts: str, addresses: tuple[str, ...] = ()) -> list[Service]:
    (one,) = compiled(service("orders")).mesh.services.values()
    return [replace(one, host=host, addresses=addresses) for host in hosts]


def test_a_service_has_one_address_that_no_other_service_moves() -> None:
    alone = virtual_addresses(some("orders.shop.svc.cluster.local"))
    among = virtual_addresses(some(*alone, *(f"s{number}.example.com" for number in range(300))))
    (address,) = alone["orders.shop.svc.cluster.local"]
    assert address in ALLOCATED
    assert among["orders.shop.svc.cluster.local"] == (address,)
    assert len({found for one in among.values() for found in one}) == 301


def test_two_of_one_hash_have_two_addresses_in_any_order() -> None:
    # A birthday among 65,534: with a thousand names some fall together.
    hosts = [f"s{number}.example.com" for number in range(1000)]
    given = virtual_addresses(some(*hosts))
    assert len({found for one in given.values() for found in one}) == 1000
    assert virtual_addresses(some(*reversed(hosts))) == given


def test_what_is_declared_is_kept() -> None:
    (declared,) = virtual_addresses(some("db.example.com", addresses=("192.0.2.7", "2001:db8::1"))).values()
    assert declared == (IPv4Address("192.0.2.7"),)


def test_a_wildcard_has_no_address_of_its_own() -> None:
    assert virtual_addresses(some("*.example.com"))["*.example.com"] == ()


def test_when_all_are_given_the_rest_have_none() -> None:
    given = virtual_addresses(some(*(f"{number}.x" for number in range(65_540))))
    assert sum(1 for found in given.values() if found) == 65_534
    assert all(found in ALLOCATED for one in given.values() for found in one)
