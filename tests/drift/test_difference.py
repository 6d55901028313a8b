from __future__ import annotations

from typing import Any

from isthmus.drift.difference import difference
from isthmus.envoy_api.packages import cluster_v3, core_v3, route_v3


def cluster(**fields: Any) -> Any:
    return cluster_v3.Cluster(name="a", **fields)


def routes(*values: str) -> Any:
    hosts = [route_v3.VirtualHost(name=value, domains=[value]) for value in values]
    return route_v3.RouteConfiguration(name="r", virtual_hosts=hosts)


def test_the_same_message() -> None:
    assert difference(cluster(), cluster()) is None


def test_places_are_named_with_both_values() -> None:
    assert difference(cluster(alt_stat_name="x"), cluster(alt_stat_name="y")) == 'alt_stat_name: "x" → "y"'
    assert difference(routes("a"), routes("a", "b")) == 'virtual_hosts[1]: nothing → "b"'
    assert difference(cluster(alt_stat_name="x"), cluster()) == 'alt_stat_name: "x" → nothing'


def test_of_many_places_the_first() -> None:
    told = difference(routes(*"abcde"), routes(*"vwxyz"))
    assert told is not None
    assert told.startswith('virtual_hosts[0].domains[0]: "a" → "v"; virtual_hosts[0].name: "a" → "v"; ')
    assert told.endswith("; and 7 more")


def test_what_may_be_a_credential_is_not_shown() -> None:
    told = difference(cluster(alt_stat_name="Basic dzpzZWNyZXQ="), cluster(alt_stat_name="y" * 100))
    assert told == "alt_stat_name: [redacted] → (something longer)"


def test_what_envoy_does_not_show_is_no_difference() -> None:
    """Its API marks some fields as sensitive: a dump has the word instead of the value."""
    wanted = core_v3.HeaderValue(key="policies", value="shop/authz")
    assert difference(wanted, core_v3.HeaderValue(key="policies", value="[redacted]")) is None
    assert difference(core_v3.HeaderValue(key="policies"), core_v3.HeaderValue(key="x", value="[redacted]")) is not None
