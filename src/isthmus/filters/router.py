"""The last filter: sends the request to its route's cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isthmus.envoy_api.packages import router_v3
from isthmus.filters.filter import Filter, http_filter

NAME = "envoy.filters.http.router"


@dataclass(frozen=True, slots=True)
class Router:
    """``suppress_envoy_headers``: neither upstream nor client sees the ``x-envoy-*`` headers that the router adds."""

    suppress_envoy_headers: bool = False


def _build(config: Router) -> tuple[Any, ...]:
    return (http_filter(NAME, router_v3.Router(suppress_envoy_headers=config.suppress_envoy_headers)),)


ROUTER = Filter(NAME, Router, _build)
