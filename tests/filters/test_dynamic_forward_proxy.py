from __future__ import annotations

from isthmus.envoy_api import unpack
from isthmus.filters.dynamic_forward_proxy import DYNAMIC_FORWARD_PROXY, DynamicForwardProxy, dns_cache


def test_the_filter_and_its_clusters_share_one_cache() -> None:
    config = DynamicForwardProxy("elsewhere")
    (built,) = DYNAMIC_FORWARD_PROXY.build(config)
    shared = unpack(built.typed_config).dns_cache_config
    assert shared.name == "elsewhere"
    assert shared == dns_cache(config), "Envoy demands that both are equal"
    assert built.SerializeToString()


def test_another_cache_is_another_configuration() -> None:
    assert dns_cache(DynamicForwardProxy()) != dns_cache(DynamicForwardProxy("elsewhere"))
