from __future__ import annotations

import subprocess
import sys

import pytest

from isthmus.diag import Origin, Ref, Source
from isthmus.envoy_api.packages import cluster_v3, discovery_v3, listener_v3
from isthmus.xds.snapshot import CLUSTER, EMPTY, ENDPOINT, LISTENER, ROUTE, SECRET, build, message, snapshot

ORDERS = cluster_v3.Cluster(name="orders", alt_stat_name="o")


def origin(line: int) -> Origin:
    return Origin(Ref("Service", "shop", "orders"), Source("shop.yaml", line, 1))


def test_a_built_resource_is_a_whole_delta_resource() -> None:
    built = build("orders", ORDERS, [origin(1)])
    resource = discovery_v3.Resource.FromString(built.wire)
    assert (resource.name, resource.version) == ("orders", built.version)
    assert resource.resource.type_url == built.type_url == CLUSTER
    assert message(built) == ORDERS
    assert built.origins == (origin(1),)


def test_the_version_is_the_contents() -> None:
    again = build("orders", cluster_v3.Cluster(name="orders", alt_stat_name="o"))
    other = build("orders", cluster_v3.Cluster(name="orders", alt_stat_name="p"))
    assert build("orders", ORDERS, [origin(1)]).version == again.version != other.version


def test_the_version_is_the_same_in_every_process() -> None:
    program = (
        "from isthmus.envoy_api.packages import cluster_v3;"
        "from isthmus.xds.snapshot import build, snapshot;"
        "metadata = {'filter_metadata': {k: {} for k in 'abcdefgh'}};"
        "built = build('orders', cluster_v3.Cluster(name='orders', metadata=metadata));"
        "print(built.version, snapshot([built]).version)"
    )
    seen = {
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, env={"PYTHONHASHSEED": seed})
        .stdout.decode()
        .strip()
        for seed in ("1", "2")
    }
    assert len(seen) == 1
    assert len(seen.pop()) == 65


def test_a_repr_shows_no_content() -> None:
    built = build("orders", cluster_v3.Cluster(name="orders", alt_stat_name="confidential"))
    assert "confidential" not in repr(built)
    assert "confidential" not in repr(snapshot([built]))


def test_a_snapshots_version_does_not_depend_on_order_or_origins() -> None:
    web = build("web", listener_v3.Listener(name="web"))
    here, there = build("orders", ORDERS, [origin(1)]), build("orders", ORDERS, [origin(2)])
    assert snapshot([web, here]).version == snapshot([there, web]).version
    assert snapshot([web, here]) == snapshot([here, web]) != snapshot([there, web])
    assert snapshot([web]).version != snapshot([web, here]).version != EMPTY.version


def test_resources_are_found_by_type_and_name() -> None:
    built = build("orders", ORDERS)
    found = snapshot([built])
    assert found.of(CLUSTER) == {"orders": built}
    assert found.of(LISTENER) == {}
    with pytest.raises(TypeError):
        found.of(CLUSTER)["other"] = built  # type: ignore[index]


def test_two_resources_of_one_type_and_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="'orders'"):
        snapshot([build("orders", ORDERS), build("orders", ORDERS)])
    assert snapshot([build("orders", ORDERS), build("orders", listener_v3.Listener(name="orders"))])


@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET])
def test_the_types_exist_in_envoy(type_url: str) -> None:
    prefix, _, name = type_url.partition("/")
    assert prefix == "type.googleapis.com"
    from isthmus.envoy_api import message_class

    assert message_class(name)().DESCRIPTOR.full_name == name
