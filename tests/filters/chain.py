"""A chain of filters as Envoy takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.filters import chain_parts


def build_chain(configs: Mapping[type, Any]) -> list[Any]:
    """The HttpFilters of ``configs``, none of them discovered."""
    return [message for _, message in chain_parts(configs)]
