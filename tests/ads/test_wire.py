from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.ads.wire import delta_response
from isthmus.envoy_api.packages import cluster_v3, discovery_v3
from isthmus.xds.snapshot import CLUSTER, build

NAMES = st.text(max_size=10)


@given(st.dictionaries(NAMES, st.integers(0, 20_000), max_size=5), st.lists(NAMES, max_size=3), NAMES)
def test_it_reads_as_protobuf_would_write_it(sizes: dict[str, int], removed: list[str], nonce: str) -> None:
    builts = [build(name, cluster_v3.Cluster(alt_stat_name="x" * size)) for name, size in sizes.items()]
    read = discovery_v3.DeltaDiscoveryResponse.FromString(
        delta_response(CLUSTER, nonce, "7", (built.wire for built in builts), removed)
    )
    written = discovery_v3.DeltaDiscoveryResponse(
        system_version_info="7",
        type_url=CLUSTER,
        nonce=nonce,
        resources=[discovery_v3.Resource.FromString(built.wire) for built in builts],
        removed_resources=removed,
    )
    assert read == written


def test_a_resource_of_several_megabytes() -> None:
    built = build("big", cluster_v3.Cluster(alt_stat_name="x" * 5_000_000))
    read = discovery_v3.DeltaDiscoveryResponse.FromString(delta_response(CLUSTER, "1", "1", [built.wire]))
    assert read.resources[0].SerializeToString(deterministic=True) == built.wire
