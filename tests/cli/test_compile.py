from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.cli.manifests import SHOP, write
from tests.cli.running import Isthmus


def names(configuration: dict[str, Any]) -> set[str]:
    return {listener["name"] for listener in configuration["static_resources"]["listeners"]}


def test_without_a_name_the_proxies_are_listed(isthmus: Isthmus) -> None:
    write(shop=SHOP)
    ran = isthmus("compile", "shop")
    assert (ran.code, ran.out.splitlines()) == (0, ["gateway~shop~edge", "sidecar~shop~orders-1"])


@pytest.mark.parametrize("name", ["edge", "shop/edge", "edge.shop", "gateway~shop~edge"])
def test_a_proxy_is_named_in_several_ways(isthmus: Isthmus, name: str) -> None:
    write(shop=SHOP)
    ran = isthmus("compile", "shop", "--proxy", name)
    assert ran.code == 0
    assert yaml.safe_load(ran.out)["node"]["id"] == "gateway~shop~edge"


def test_yaml_and_json_say_the_same(isthmus: Isthmus) -> None:
    write(shop=SHOP)
    as_yaml = isthmus("compile", "shop", "--proxy", "orders-1", "-o", "yaml")
    as_json = isthmus("compile", "shop", "--proxy", "orders-1", "-o", "json")
    assert yaml.safe_load(as_yaml.out) == as_json.json
    assert names(as_json.json)


def test_the_same_manifests_give_the_same_bytes(isthmus: Isthmus) -> None:
    write(shop=SHOP)
    first, second = (isthmus("compile", "shop", "--proxy", "edge") for _ in range(2))
    assert first.out == second.out


def test_an_unknown_proxy(isthmus: Isthmus) -> None:
    write(shop=SHOP)
    ran = isthmus("compile", "shop", "--proxy", "egde")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == 'isthmus: no proxy "egde"; there are: gateway~shop~edge, sidecar~shop~orders-1\n'


def test_a_name_that_several_proxies_have(isthmus: Isthmus) -> None:
    other = SHOP.replace("namespace: shop", "namespace: other").replace("app: edge", "app: other-edge")
    write(shop=SHOP, other=other)
    assert isthmus("compile", "shop", "--proxy", "edge").code == 1
    assert isthmus("compile", "shop", "--proxy", "other/edge").code == 0


def test_broken_manifests_are_not_compiled(isthmus: Isthmus) -> None:
    write(shop=SHOP.replace("selector: {app: edge}", "selectr: {app: edge}"))
    ran = isthmus("compile", "shop", "--proxy", "edge")
    assert (ran.code, ran.out) == (1, "")
    assert "shop/shop.yaml:5:3: error ISM1101" in ran.err


def test_a_reference_that_does_not_resolve_spares_the_rest(isthmus: Isthmus) -> None:
    write(shop=SHOP.replace("{host: orders}", "{host: oders}"))
    ran = isthmus("compile", "shop", "--proxy", "edge", "-o", "json")
    assert ran.code == 0
    assert ran.json["node"]["id"] == "gateway~shop~edge"
    assert "error IST0101" in ran.err
