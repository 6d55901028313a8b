from __future__ import annotations

import lzma
from datetime import timedelta
from importlib import resources
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from isthmus.envoy_api import Package, any_of, duration, from_json, message_class, packages, to_json, unpack
from isthmus.envoy_api.packages import cluster_v3, core_v3, listener_v3, protobuf, tcp_proxy_v3


def test_a_message_is_made_of_its_fields() -> None:
    cluster = cluster_v3.Cluster(name="orders", type=cluster_v3.Cluster.EDS)
    assert cluster.DESCRIPTOR.full_name == "envoy.config.cluster.v3.Cluster"
    assert cluster_v3.Cluster is cluster_v3.Cluster, "made once"


def test_a_misspelt_type_is_an_error_at_once() -> None:
    with pytest.raises(AttributeError, match=r"Envoy has no type envoy\.config\.cluster\.v3\.Clutser"):
        cluster_v3.Clutser  # noqa: B018
    with pytest.raises(KeyError):
        message_class("envoy.config.cluster.v3.Clutser")


def test_a_misspelt_field_or_a_wrong_type_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="nmae"):
        cluster_v3.Cluster(nmae="orders")
    with pytest.raises(AttributeError):
        cluster_v3.Cluster().nmae = "orders"
    with pytest.raises(TypeError):
        cluster_v3.Cluster(name=5)
    with pytest.raises(ValueError, match=r"(?i)unknown enum label"):
        cluster_v3.Cluster(type="EDSS")


def test_enums_have_values_and_names() -> None:
    assert core_v3.TrafficDirection.Value("INBOUND") == 1
    assert core_v3.TrafficDirection.Name(2) == "OUTBOUND"
    with pytest.raises(ValueError, match="SIDEWAYS"):
        core_v3.TrafficDirection.Value("SIDEWAYS")


def test_every_package_is_envoys() -> None:
    raw = resources.files("isthmus.envoy_api").joinpath("descriptors.binpb.xz").read_bytes()
    known = {file.package for file in descriptor_pb2.FileDescriptorSet.FromString(lzma.decompress(raw)).file}
    used = {value._name for value in vars(packages).values() if isinstance(value, Package)}
    assert used - known == set()


def test_an_any_has_the_same_bytes_every_time() -> None:
    metadata = {"filter_metadata": {name: {} for name in "abcdefgh"}}
    backwards = {"filter_metadata": {name: {} for name in "hgfedcba"}}
    one, two = (any_of(cluster_v3.Cluster(name="orders", metadata=value)) for value in (metadata, backwards))
    assert one.SerializeToString() == two.SerializeToString()
    assert one.type_url == "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    assert unpack(one) == cluster_v3.Cluster(name="orders", metadata=metadata)


def test_an_any_of_a_type_that_this_envoy_does_not_have() -> None:
    unknown = message_class("google.protobuf.Any")(type_url="type.googleapis.com/envoy.No")
    with pytest.raises(KeyError):
        unpack(unknown)


@pytest.mark.parametrize("seconds", [0, 0.25, 3600])
def test_durations(seconds: float) -> None:
    built = duration(timedelta(seconds=seconds))
    assert built.ToTimedelta() == timedelta(seconds=seconds)
    cluster_v3.Cluster(connect_timeout=built)


def test_well_known_types_come_from_the_same_pool() -> None:
    built = listener_v3.Listener(enable_reuse_port=protobuf.BoolValue(value=False))
    assert built.HasField("enable_reuse_port")
    assert not built.enable_reuse_port.value


def test_json_opens_what_is_packed_and_reads_back() -> None:
    proxy = tcp_proxy_v3.TcpProxy(stat_prefix="x", cluster="orders")
    filter_ = listener_v3.Filter(name="tcp", typed_config=any_of(proxy))
    written = to_json(filter_)
    assert written["typed_config"]["cluster"] == "orders"
    assert written["typed_config"]["@type"].endswith("tcp_proxy.v3.TcpProxy")


def test_json_of_a_newer_envoy_is_read_as_far_as_it_is_known() -> None:
    read: Any = from_json('{"name": "orders", "a_new_field": 5}', "envoy.config.cluster.v3.Cluster")
    assert read.name == "orders"
