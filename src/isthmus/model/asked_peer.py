"""Which callers rules ask for, whatever else they ask: for telling a wrong caller from a wrong request."""

from __future__ import annotations

import re
from collections.abc import Iterable

from isthmus.model.match import Contains, Exact, Prefix, Present, Regex, StringMatch, Suffix
from isthmus.model.predicate import All, AnyOf, Peer, Predicate

LONGEST = 4096
"""Characters. What asks for more callers than fit is not told apart: every request would carry them."""


def asked_peers(rules: Iterable[Predicate]) -> str | None:
    """A regular expression (RE2, of the whole SPIFFE ID) that each caller fits whom any of ``rules`` can take.

    None where a rule takes any caller, or none at all does, or where it would be too long.
    """
    found: dict[str, None] = {}
    for rule in rules:
        matches = _asked(rule)
        if matches is None:
            return None
        found.update(dict.fromkeys(map(_pattern, matches)))
    joined = f"^({'|'.join(found)})$"
    return joined if found and len(joined) <= LONGEST else None


def _asked(predicate: Predicate) -> tuple[StringMatch, ...] | None:
    """None: it may take anybody."""
    match predicate:
        case Peer(match):
            return (match,)
        case AnyOf(parts):
            each = [_asked(part) for part in parts]
            known = [one for one in each if one is not None]
            return tuple(match for one in known for match in one) if len(known) == len(each) else None
        case All(parts):
            asked = [one for one in map(_asked, parts) if one is not None]
            return min(asked, key=len, default=None)
    return None


def _pattern(match: StringMatch) -> str:
    match match:
        case Regex(value):
            return f"(?:{value})"
        case Present():
            return ".+"
        case Exact(value, ignore_case):
            found = re.escape(value)
        case Prefix(value, ignore_case):
            found = f"{re.escape(value)}.*"
        case Suffix(value, ignore_case):
            found = f".*{re.escape(value)}"
        case Contains(value, ignore_case):
            found = f".*{re.escape(value)}.*"
        case _:
            return ".*"
    return f"(?i:{found})" if ignore_case else found
