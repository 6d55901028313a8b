from __future__ import annotations

from typing import Any

from isthmus.envoy_api import any_of
from isthmus.filters.fault import Fault
from isthmus.filters.rbac import Allow, Deny
from isthmus.filters.router import Router
from isthmus.xds.extension import build_filter_chain
from isthmus.xds.snapshot import EXTENSION, message
from tests.filters.chain import build_chain

from .making import origin

CONFIGS: dict[type, Any] = {Router: Router(), Deny: Deny(), Allow: Allow(), Fault: Fault()}


def test_policies_are_discovered_what_never_changes_stands_in_place() -> None:
    chain = build_filter_chain("inbound_80", CONFIGS, [origin("policy")])
    assert [(one.name, one.WhichOneof("config_type")) for one in chain.filters] == [
        ("inbound_80/isthmus.rbac.deny", "config_discovery"),
        ("inbound_80/isthmus.rbac.allow", "config_discovery"),
        ("envoy.filters.http.fault", "typed_config"),
        ("envoy.filters.http.router", "typed_config"),
    ]
    assert [(built.type_url, built.name) for built in chain.extensions] == [
        (EXTENSION, "inbound_80/isthmus.rbac.deny"),
        (EXTENSION, "inbound_80/isthmus.rbac.allow"),
    ]
    assert all(built.origins == (origin("policy"),) for built in chain.extensions)


def test_what_is_discovered_is_what_would_have_stood_in_place() -> None:
    chain = build_filter_chain("x", CONFIGS)
    in_place = {one.name: one.typed_config for one in build_chain(CONFIGS)}
    for built in chain.extensions:
        extension: Any = message(built)
        assert extension.typed_config == in_place[built.name.removeprefix("x/")]


def test_a_filter_takes_its_own_types_by_ads_and_waits_for_them() -> None:
    discovery = build_filter_chain("x", CONFIGS).filters[0].config_discovery
    assert list(discovery.type_urls) == [
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        "envoy.extensions.filters.http.composite.v3.Composite",
    ]
    assert discovery.config_source.HasField("ads")
    assert not discovery.apply_default_config_without_warming
    assert not discovery.HasField("default_config"), "a default would let requests through before the policy is there"


def test_a_change_of_policy_leaves_the_listener_as_it_is() -> None:
    before, after = build_filter_chain("x", CONFIGS), build_filter_chain("x", {**CONFIGS, Allow: Allow(())})
    assert [any_of(one) for one in before.filters] == [any_of(one) for one in after.filters]
    assert [one.version for one in before.extensions] != [one.version for one in after.extensions]
