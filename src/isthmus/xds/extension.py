"""HTTP filters that are discovered apart from their listener (ECDS).

A listener that changes drains: its standing connections go on under the old policies until they close. What changes
while people work on policies (token rules, access control) is therefore a resource of its own: Envoy takes it for the
next request on every connection, and no connection is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.diag import Origin
from isthmus.envoy_api.packages import core_v3, http_connection_manager_v3
from isthmus.filters import chain_parts
from isthmus.xds.cluster import ads
from isthmus.xds.snapshot import Built, build


@dataclass(frozen=True, slots=True)
class FilterChain:
    """The filters of a connection manager, and the configurations that they are to discover."""

    filters: tuple[Any, ...]
    extensions: tuple[Built, ...] = ()


def build_filter_chain(scope: str, configs: Mapping[type, Any], origins: Iterable[Origin] = ()) -> FilterChain:
    """The chain of ``configs``. ``scope`` tells the chains of one proxy apart in the names of their extensions."""
    filters: list[Any] = []
    extensions: list[Built] = []
    for filter_, message in chain_parts(configs):
        if not filter_.discovered:
            filters.append(message)
            continue
        name = f"{scope}/{message.name}"
        found = core_v3.TypedExtensionConfig(name=name, typed_config=message.typed_config)
        extensions.append(build(name, found, origins))
        types = filter_.types or (_full_name(message.typed_config),)
        source = core_v3.ExtensionConfigSource(config_source=ads(), type_urls=types)
        # One that is disabled here waits for a route that says something to it.
        http_filter = http_connection_manager_v3.HttpFilter(
            name=name, config_discovery=source, disabled=message.disabled
        )
        filters.append(http_filter)
    return FilterChain(tuple(filters), tuple(extensions))


def _full_name(packed: Any) -> str:
    full_name: str = packed.type_url.rpartition("/")[2]
    return full_name
