"""What a policy is made of before it is compiled: modules and data, wherever they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Module:
    """``file``: as findings name it."""

    file: str
    text: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Modules and data that are compiled as one.

    ``name``: ``namespace/name`` of the RegoPolicy that it is for. ``data``: the base document, an object of JSON
    values. ``bundles``: revisions by the names of the bundles it comes from; empty if it is from no bundle.
    """

    name: str
    modules: tuple[Module, ...]
    data: Mapping[str, Any] = field(default_factory=dict)
    bundles: Mapping[str, str] = field(default_factory=dict)
