"""HTTP routes, as VirtualServices declare them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from isthmus.diag import Origin
from isthmus.model.match import StringMatch

MESH = "mesh"
"""The reserved gateway name that means every sidecar."""


@dataclass(frozen=True, slots=True)
class ClaimMatch:
    """What a claim of the verified token must be. ``path`` goes down nested objects; Present: there, whatever it is."""

    path: tuple[str, ...]
    match: StringMatch


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """One match: all that is given must hold. ``gateways`` None: those of the VirtualService.

    Without a verified token no claim is there: ``claims`` do not hold, ``without_claims`` do.
    """

    uri: StringMatch | None = None
    ignore_uri_case: bool = False
    method: StringMatch | None = None
    authority: StringMatch | None = None
    scheme: StringMatch | None = None
    headers: tuple[tuple[str, StringMatch], ...] = ()
    without_headers: tuple[tuple[str, StringMatch], ...] = ()
    query: tuple[tuple[str, StringMatch], ...] = ()
    port: int | None = None
    gateways: tuple[str, ...] | None = None
    source_labels: tuple[tuple[str, str], ...] = ()
    source_namespace: str | None = None
    claims: tuple[ClaimMatch, ...] = ()
    without_claims: tuple[ClaimMatch, ...] = ()
    stat_prefix: str = ""
    """Of the route's own statistics; it matches nothing."""

    @property
    def asks_claims(self) -> bool:
        return bool(self.claims or self.without_claims)


@dataclass(frozen=True, slots=True)
class HeaderOperations:
    """``set`` overwrites, ``add`` appends, ``remove`` takes away; ``Host`` in ``set`` rewrites the authority."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Headers:
    request: HeaderOperations = HeaderOperations()
    response: HeaderOperations = HeaderOperations()


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a share of a route goes: a service's full host name, its port and an optional subset.

    ``port`` is 0 where none is written and the service, which would tell, does not exist.
    """

    host: str
    port: int
    subset: str | None = None
    weight: int = 1
    headers: Headers = Headers()


@dataclass(frozen=True, slots=True)
class Retry:
    """Istio's defaults: 2 attempts on failures in which the request was not processed, never on a plain 503."""

    attempts: int = 2
    retry_on: tuple[str, ...] = ("connect-failure", "refused-stream", "unavailable", "cancelled")
    status_codes: tuple[int, ...] = ()
    per_try_timeout: timedelta | None = None
    backoff: timedelta | None = None
    """The first wait is up to this long, each further one up to twice that; None: Envoy's 25 ms."""
    avoid_previous_hosts: bool | None = None
    """Whether a retry goes to hosts that were not tried yet. None: as usual."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    uri: str | None = None
    authority: str | None = None
    uri_regex: tuple[str, str] | None = None
    """(RE2 match, rewrite)."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of ``percent`` (0 to 100) of the requests goes to ``destination``; nobody waits for its answer."""

    destination: Destination
    percent: float = 100.0


@dataclass(frozen=True, slots=True)
class Forward:
    destinations: tuple[Destination, ...]
    rewrite: Rewrite | None = None
    timeout: timedelta | None = None
    """None: no timeout, as in Istio."""
    retry: Retry = Retry()
    mirrors: tuple[Mirror, ...] = ()

    @property
    def targets(self) -> tuple[Destination, ...]:
        """Everything that may get the request, or a copy of it."""
        return (*self.destinations, *(mirror.destination for mirror in self.mirrors))


@dataclass(frozen=True, slots=True)
class Redirect:
    status: int = 301
    uri: str | None = None
    """Instead of the whole path."""
    authority: str | None = None
    scheme: str | None = None
    port: int | None = None
    port_from_request: bool = False
    """Name the port that the request came to (``derivePort: FROM_REQUEST_PORT``)."""
    port_of_scheme: bool = False
    """Name 80 or 443 (``derivePort: FROM_PROTOCOL_DEFAULT``). By default the port stays as the caller wrote it."""
    prefix: str | None = None
    """Instead of the prefix that matched; the rest of the path stays. Not together with ``uri``."""


@dataclass(frozen=True, slots=True)
class DirectResponse:
    """The proxy answers by itself. ``body``: at most a mebibyte."""

    status: int
    body: str | bytes = ""


Action = Forward | Redirect | DirectResponse


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """One route: the first whose match holds wins. Without matches it takes every request.

    ``filters`` holds what single HTTP filters are told for this route, keyed by the type of their configuration.
    """

    name: str
    matches: tuple[RouteMatch, ...]
    action: Action
    origin: Origin
    headers: Headers = Headers()
    filters: Mapping[type, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouteTable:
    """One VirtualService: routes for ``hosts`` at ``gateways`` (``mesh`` or ``namespace/name``)."""

    name: str
    namespace: str
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    routes: tuple[HttpRoute, ...]
    origin: Origin
    asks_claims: bool = False
    """Whether any match of it does: proxies choose its routes anew once a token is verified."""
