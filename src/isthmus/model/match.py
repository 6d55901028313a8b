"""String matches, as Istio's StringMatch and AuthorizationPolicy values have them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exact:
    value: str
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Prefix:
    """A plain string prefix, not a path segment: ``/foo`` matches ``/foobar``."""

    value: str
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Suffix:
    value: str
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Contains:
    value: str
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Regex:
    """RE2, matched against the whole value."""

    value: str


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A path with ``{*}`` (one segment) and a last ``{**}`` (the rest), as AuthorizationPolicy writes them."""

    value: str


@dataclass(frozen=True, slots=True)
class Present:
    """Any value that is not empty. An absent one does not match."""


StringMatch = Exact | Prefix | Suffix | Contains | Regex | PathTemplate | Present


def wildcard(written: str, *, ignore_case: bool = False) -> StringMatch:
    """AuthorizationPolicy's values: ``*`` present, ``*x`` suffix, ``x*`` prefix, else exact; only the ends count."""
    if written == "*":
        return Present()
    if written.startswith("*"):
        return Suffix(written[1:], ignore_case)
    if written.endswith("*"):
        return Prefix(written[:-1], ignore_case)
    return Exact(written, ignore_case)


def template_regex(template: str) -> str:
    """RE2 for a :class:`PathTemplate`; ``{*}`` is one non-empty segment, ``{**}`` zero or more."""
    parts = re.split(r"(\{\*\*\}|\{\*\})", template)
    return "".join({"{*}": "[^/]+", "{**}": ".*"}.get(part, re.escape(part)) for part in parts)
