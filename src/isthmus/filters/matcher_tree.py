"""Envoy's matcher trees (``xds.type.matcher.v3.Matcher``) over the beginning of one text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.envoy_api import Message, any_of
from isthmus.envoy_api.packages import matcher_v3, network_inputs_v3, xds_core_v3, xds_matcher_v3


def header(name: str) -> Message:
    """A request header as input; one that is not there has no key. ``:path`` is with its query."""
    built: Message = matcher_v3.HttpRequestHeaderMatchInput(header_name=name)
    return built


def filter_state(key: str) -> Message:
    """A filter state as input; one that is not there has no key."""
    built: Message = network_inputs_v3.FilterStateInput(key=key)
    return built


def build_tree(value: Message, leaves: Mapping[str, Message]) -> Any:
    """A Matcher that acts as the leaf of the longest key that ``value`` begins with.

    The leaf of the key ``""`` acts where there is no other key; without one, nothing does.
    """
    keys = {key: _act(leaf) for key, leaf in leaves.items() if key}
    built = xds_matcher_v3.Matcher()
    if "" in leaves:
        built.on_no_match.CopyFrom(_act(leaves[""]))
    built.matcher_tree.input.CopyFrom(_extension("input", value))
    for key, leaf in keys.items():
        built.matcher_tree.prefix_match_map.map[key].CopyFrom(leaf)
    return built


def _act(action: Message) -> Any:
    return xds_matcher_v3.Matcher.OnMatch(action=_extension("action", action))


def _extension(name: str, message: Message) -> Any:
    return xds_core_v3.TypedExtensionConfig(name=name, typed_config=any_of(message))
