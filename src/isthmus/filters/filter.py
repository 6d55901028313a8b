"""What an HTTP filter is to Isthmus: a configuration value, and how Envoy's messages are made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from isthmus.envoy_api import Message, any_of
from isthmus.envoy_api.packages import http_connection_manager_v3

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Filter(Generic[C]):
    """One place in the filter chain.

    ``build`` makes the chain's HttpFilter messages of a configuration: mostly one; several that belong together
    stand in their order. ``build_route`` makes what a route tells the filter called ``name`` (an entry of
    ``typed_per_filter_config``), for filters whose configuration may differ by route.
    """

    name: str
    config: type[C]
    build: Callable[[C], tuple[Any, ...]]
    build_route: Callable[[Any], Message] | None = None
    route_config: type[Any] | None = None
    """What ``build_route`` takes, where that is not the chain's ``config``."""
    discovered: bool = False
    """Whether it changes as policies do, and so is discovered apart from its listener, which a change would drain."""
    types: tuple[str, ...] = ()
    """The messages that its configuration may be from one change to the next, where it is not always the same."""


def http_filter(name: str, typed_config: Message) -> Any:
    """An ``HttpFilter`` of the connection manager."""
    return http_connection_manager_v3.HttpFilter(name=name, typed_config=any_of(typed_config))
