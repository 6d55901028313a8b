"""DeltaDiscoveryResponse put together from resources that are bytes already.

Two serialised protobuf messages, one behind the other, are their merge, and a repeated message field is tag, length,
bytes (https://protobuf.dev/programming-guides/encoding/#last-one-wins). So the small fields are serialised by protobuf,
and each cached ``Resource`` follows as it is, behind its tag: nothing is built again for a stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from isthmus.envoy_api.packages import discovery_v3
from isthmus.xds.snapshot import Built, delimited, wire

# DeltaDiscoveryResponse.resources: field 2, wire type 2 (length-delimited), envoy/service/discovery/v3/discovery.proto
_RESOURCES_TAG = 2 << 3 | 2


def delta_response(
    type_url: str, nonce: str, version: str, resources: Iterable[bytes], removed: Iterable[str] = ()
) -> bytes:
    """A serialised DeltaDiscoveryResponse.

    ``resources`` are serialised ``envoy.service.discovery.v3.Resource`` messages, ``removed`` names that do not
    exist (any more), ``version`` is for people (``system_version_info``).
    """
    head = discovery_v3.DeltaDiscoveryResponse(
        system_version_info=version, type_url=type_url, nonce=nonce, removed_resources=removed
    )
    parts: list[bytes] = [head.SerializeToString(deterministic=True)]
    for resource in resources:
        parts += delimited(_RESOURCES_TAG, resource)
    return b"".join(parts)


def whole_response(type_url: str, nonce: str, version: str, resources: Mapping[str, Built]) -> bytes:
    """As :func:`delta_response`, of all ``resources``: the same bytes for all proxies that share them."""
    head = discovery_v3.DeltaDiscoveryResponse(system_version_info=version, type_url=type_url, nonce=nonce)
    return b"".join((head.SerializeToString(deterministic=True), wire(resources, _RESOURCES_TAG)))
