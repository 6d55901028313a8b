"""DENY rules of our own, which no manifest asks for: what Envoy lets pass and whoever reads it next may misread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from isthmus.filters.jwt_authn import HEADER, NAME, JwtAuthn
from isthmus.filters.rbac import NamedRule
from isthmus.model.match import Contains, Present
from isthmus.model.oidc import SESSION
from isthmus.model.predicate import FilterMetadata, Host, Path, Predicate, any_of

CRITICAL = "isthmus-jwt-critical"
"""A token whose header has ``crit``: it means something that must be understood (RFC 7515, section 4.1.11), and nobody
here does. Envoy does not look at it."""
DOT_PARAMETER = "isthmus-path-dot-parameter"
"""A path with ``/..;``: a step up to programs that cut parameters off the segments of a path, and to Envoy none."""
HOST_LIST = "isthmus-host-list"
"""Two ``Host`` headers, which Envoy joins: a host of a wildcard, and either of the two to programs."""


def own_rules(tokens: JwtAuthn, *, edge: bool, logins: Iterable[str] = ()) -> Iterator[NamedRule]:
    """Those of one HTTP port. ``edge``: clients write its paths, and no proxy before it has looked at them.

    ``logins``: the keys of those whose ID tokens are verified there.
    """
    bearers = [HEADER] if tokens.rules and not tokens.only_claims else []
    headers = [*bearers, *(f"{SESSION}{key}" for key in logins)]
    if headers:
        yield NamedRule(CRITICAL, _critical(headers))
    if edge:
        yield NamedRule(DOT_PARAMETER, Path(Contains("/..;")))
        yield NamedRule(HOST_LIST, Host(Contains(",")))


def _critical(headers: Iterable[str]) -> Predicate:
    """In any of these JOSE headers, as the metadata calls them."""
    listed = (False, True)
    return any_of(*(FilterMetadata(NAME, (header, "crit"), Present(), one) for header in headers for one in listed))
