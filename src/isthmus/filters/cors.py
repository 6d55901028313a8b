"""Cross-origin requests from browsers (CORS): preflights are answered here, other requests go on to access control.

The filter does nothing on the chain; what it shall do stands on the routes. CORS is no access control: it tells a
browser whose pages may read an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from isthmus.envoy_api.packages import core_v3, cors_v3, protobuf, type_v3
from isthmus.filters.filter import Filter, http_filter
from isthmus.filters.string_matcher import build_string_matcher
from isthmus.model.match import StringMatch

NAME = "envoy.filters.http.cors"


@dataclass(frozen=True, slots=True)
class Cors:
    """Whose pages may do what. ``max_age``: whole seconds for which a browser keeps a preflight's answer."""

    allow_origins: tuple[StringMatch, ...] = ()
    """Any of them; ``Exact("*")`` is every origin. None of them: no origin."""
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: timedelta | None = None
    allow_credentials: bool = False
    forward_unmatched_preflights: bool = True
    """Whether a preflight from another origin goes on (to access control and the service), or is answered with 200
    and no permission."""


def build_route(config: Cors) -> Any:
    """The CorsPolicy of a route. Source: envoy/extensions/filters/http/cors/v3/cors.proto."""
    always = type_v3.FractionalPercent(numerator=100, denominator=type_v3.FractionalPercent.HUNDRED)
    return cors_v3.CorsPolicy(
        allow_origin_string_match=[build_string_matcher(origin) for origin in config.allow_origins],
        allow_methods=",".join(config.allow_methods),
        allow_headers=",".join(config.allow_headers),
        expose_headers=",".join(config.expose_headers),
        max_age="" if config.max_age is None else str(int(config.max_age.total_seconds())),
        allow_credentials=protobuf.BoolValue(value=config.allow_credentials),
        filter_enabled=core_v3.RuntimeFractionalPercent(default_value=always),
        forward_not_matching_preflights=protobuf.BoolValue(value=config.forward_unmatched_preflights),
    )


def _build(config: Cors) -> tuple[Any, ...]:
    return (http_filter(NAME, cors_v3.Cors()),)


CORS = Filter(NAME, Cors, _build, build_route)
