"""The names of a chain's ALLOW rules, for the access log: of a request that none took, Envoy itself names nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isthmus.envoy_api.packages import protobuf, set_metadata_v3
from isthmus.filters.filter import Filter, http_filter

NAME = "isthmus.allow_policies"
_NAMESPACE = "isthmus"
_KEY = "allow_policies"

LOG_FIELD = f"%DYNAMIC_METADATA({_NAMESPACE}:{_KEY})%"
"""A list of names; null where the filter was not reached."""


@dataclass(frozen=True, slots=True)
class AllowPolicies:
    names: tuple[str, ...]


def _build(config: AllowPolicies) -> tuple[Any, ...]:
    value = protobuf.Struct()
    value.update({_KEY: list(config.names)})
    entry = set_metadata_v3.Metadata(metadata_namespace=_NAMESPACE, value=value)
    return (http_filter(NAME, set_metadata_v3.Config(metadata=[entry])),)


ALLOW_POLICIES = Filter(NAME, AllowPolicies, _build, discovered=True)
