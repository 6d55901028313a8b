"""The names of a chain's ALLOW rules, for the access log: of a request that none took, Envoy itself names nothing.

Every request carries them, a microsecond each: that of many rules only the policies are named, and of many policies
only the number, is what keeps a request's cost from growing with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.envoy_api.packages import protobuf, set_metadata_v3
from isthmus.filters.filter import Filter, http_filter

NAME = "isthmus.allow_policies"
NAMESPACE = "isthmus"
_KEY = "allow_policies"
PEERS_KEY = "allowed_peers"

LOG_FIELD = f"%DYNAMIC_METADATA({NAMESPACE}:{_KEY})%"
"""A list of names; null where the filter was not reached."""

MOST_NAMED = 8
"""How many rules, or else policies, the list names one by one."""


@dataclass(frozen=True, slots=True)
class AllowPolicies:
    """``peers``: where all of the rules name callers, a regular expression (RE2, of the whole SPIFFE ID) of them."""

    names: tuple[str, ...] = ()
    peers: str | None = None


def listed(names: Sequence[str]) -> list[str]:
    """What the access log tells of rules: their names, or their policies' names, or how many policies there are."""
    if len(names) <= MOST_NAMED:
        return list(names)
    policies = list(dict.fromkeys(name.partition("-rule[")[0] for name in names))
    return policies if len(policies) <= MOST_NAMED else [f"{len(policies)} policies"]


def _build(config: AllowPolicies) -> tuple[Any, ...]:
    value = protobuf.Struct()
    value.update({_KEY: listed(config.names)})
    if config.peers is not None:
        value.update({PEERS_KEY: config.peers})
    entry = set_metadata_v3.Metadata(metadata_namespace=NAMESPACE, value=value)
    return (http_filter(NAME, set_metadata_v3.Config(metadata=[entry])),)


ALLOW_POLICIES = Filter(NAME, AllowPolicies, _build, discovered=True)
