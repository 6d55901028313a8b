"""Paths of a rule: plain ones as AuthorizationPolicy writes them, and templates whose segments have names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.kinds.authorization_policy import value as values
from isthmus.model.match import Regex, wildcard
from isthmus.model.predicate import Path, Predicate

_NAMED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
# A segment that a server behind could read as another one never fits: with ";" it may be cut there, with "%" or "\"
# be decoded once more, and one of dots alone be resolved.
_SEGMENT = r"[^/;%\\]*[^/;%\\.][^/;%\\]*"
_ANY_SEGMENT = r"[^/;]+"
_REST = r"[^;]*"


@dataclass(frozen=True, slots=True)
class PathSpec:
    """``segments``: which segment each named parameter is, the first after the leading slash being 1."""

    predicate: Predicate
    segments: Mapping[str, int]


def path_problem(written: str) -> str | None:
    """What is wrong with a path; None: nothing is."""
    if not written:
        return "an empty path never matches"
    if "{" not in written and "}" not in written:
        if not written.startswith(("/", "*")):
            return f'"{written}" never matches: a path begins with /'
        return f'"{written}" never matches: a wildcard stands only at one end' if values.plain_stars(written) else None
    if not written.startswith("/"):
        return f'"{written}" never matches: a path begins with /'
    segments = written[1:].split("/")
    names = [named[1] for segment in segments if (named := _NAMED.fullmatch(segment))]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        return f'"{written}": {{{repeated}}} is there twice'
    if "{**}" in segments[:-1]:
        return f'"{written}": {{**}} must be the last segment'
    for segment in segments:
        if ("{" in segment or "}" in segment) and segment not in ("{*}", "{**}") and not _NAMED.fullmatch(segment):
            return f'"{segment}": a whole segment is {{name}}, {{*}} or {{**}}, or else plain text'
    return None


def read_path(written: str) -> PathSpec:
    """A path that ``path_problem`` finds nothing wrong with."""
    if "{" not in written:
        return PathSpec(Path(wildcard(written)), {})
    found: dict[str, int] = {}
    parts: list[str] = []
    for place, segment in enumerate(written[1:].split("/"), 1):
        named = _NAMED.fullmatch(segment)
        if named is not None:
            found[named[1]] = place
        parts.append(_SEGMENT if named is not None else _part(segment))
    return PathSpec(Path(Regex("/" + "/".join(parts))), found)


def _part(segment: str) -> str:
    return {"{*}": _ANY_SEGMENT, "{**}": _REST}.get(segment) or re.escape(segment)
