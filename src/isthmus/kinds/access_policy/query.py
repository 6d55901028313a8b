"""What a query must be like so that a parameter in it means one thing to everybody who reads it.

The proxy compares the text between ``name=`` and the next ``&``. A server behind may take the last of two, decode
``%61mount``, look past the case of names, or divide at ``;``: a request in which that makes a difference never fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from isthmus.model.match import Regex
from isthmus.model.predicate import PathAndQuery, Predicate, all_of, negate

_QUERY = r"[^?]*\?"
_BEFORE = _QUERY + "(.*&)?"
_UNCLEAR = (
    # Another separator, or a character that ends the query for some.
    _QUERY + ".*[;#].*",
    # A name that is written in codes.
    _BEFORE + "[^=&]*[%+][^=&]*([=&].*)?",
)


def guard(names: Iterable[str]) -> Predicate:
    """True of a query that has each of ``names`` at most once, as plainly as the condition reads it."""
    names = sorted(names)
    if not names:
        return all_of()
    each = (form for name in names for form in _unclear(re.escape(name)))
    return all_of(*(_not(form) for form in (*_UNCLEAR, *each)), *(_not_in_other_case(name) for name in names))


def _unclear(name: str) -> tuple[str, ...]:
    return (
        # Twice, in whichever case.
        f"(?i){_BEFORE}{name}([=[][^&]*)?&(.*&)?{name}([=&[].*)?",
        # As a list (name[]), or without a value.
        f"(?i){_BEFORE}{name}\\[.*",
        f"{_BEFORE}{name}(&.*)?",
        # With a value that is to be decoded.
        f"{_BEFORE}{name}=[^&]*[%+].*",
    )


def _not(form: str) -> Predicate:
    return negate(PathAndQuery(Regex(form)))


def _not_in_other_case(name: str) -> Predicate:
    plain = re.escape(name)
    anyhow = PathAndQuery(Regex(f"(?i){_BEFORE}{plain}=.*"))
    return negate(all_of(anyhow, _not(f"{_BEFORE}{plain}=.*")))
