"""``subjectAltNames`` of a ClientTrafficPolicy: names that a client's certificate may have, by their type."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from isthmus.config.decode import Reader, Unreadable, checked, fail, list_of, one_of, optional, record, required, text
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.host import is_ip, name_problem
from isthmus.kinds.shape.regex import INVALID_REGEX, regex_problem
from isthmus.model.client_traffic import SanMatch, SanType, Wildcard
from isthmus.model.match import Exact, Prefix, Regex, Suffix

_FORMS = ("exact", "prefix", "suffix", "regex")
_Match = Exact | Prefix | Suffix | Regex | Wildcard


@dataclass(frozen=True, slots=True)
class _Written:
    at: Node
    exact: str | None
    prefix: str | None
    suffix: str | None
    regex: str | None
    wildcard: str | None = None
    oid: str | None = None


@dataclass(frozen=True, slots=True)
class _Names:
    at: Node
    dns_names: tuple[SanMatch, ...]
    uris: tuple[SanMatch, ...]
    email_addresses: tuple[SanMatch, ...]
    ip_addresses: tuple[SanMatch, ...]
    other_names: tuple[SanMatch, ...]


def _match(written: _Written, node: Node, report: Report) -> _Match:
    values: dict[str, tuple[str | None, Callable[[str], _Match]]] = {
        "exact": (written.exact, Exact),
        "prefix": (written.prefix, Prefix),
        "suffix": (written.suffix, Suffix),
        "regex": (written.regex, Regex),
        "wildcard": (written.wildcard, Wildcard),
    }
    given = [(name, value, make) for name, (value, make) in values.items() if value is not None]
    if not given:
        raise fail(report, node, f"one of {', '.join(_FORMS)} is needed")
    name, value, make = given[0]
    if not value:
        raise fail(report, node.at(name), "an empty name says nothing of any certificate")
    problem = regex_problem(value) if name == "regex" else None
    if problem is not None:
        report.add(INVALID_REGEX, node.at(name), regex=value, problem=problem)
        raise Unreadable
    return make(value)


def _wildcard_problem(written: str) -> str | None:
    rest = written.removeprefix("*.")
    if rest == written or "*" in rest or is_ip(rest) or name_problem(rest) is not None:
        return f'"{written}" is not a wildcard such as "*.internal.corp"'
    return None


def _oid_problem(written: str) -> str | None:
    good = re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", written)
    return None if good else f'"{written}" is not an object identifier such as 1.3.6.1.4.1.311.20.2.3'


def _name_of(san: SanType) -> Callable[[_Written, Node, Report], SanMatch]:
    def name(written: _Written, node: Node, report: Report) -> SanMatch:
        match = _match(written, node, report)
        if san is SanType.IP_ADDRESS and isinstance(match, Exact) and not is_ip(match.value):
            raise fail(report, node.at("exact"), f'"{match.value}" is not an IP address')
        return SanMatch(san, match, written.oid)

    return name


_MATCH = tuple(optional(form, text) for form in _FORMS)
_WILDCARD = optional("wildcard", checked(text, _wildcard_problem), note="any one label in the place of the star")
_OID = required("oid", checked(text, _oid_problem))


def _names(san: SanType) -> Reader[tuple[SanMatch, ...]]:
    fields = (*_MATCH, *((_WILDCARD,) if san is SanType.DNS else ()), *((_OID,) if san is SanType.OTHER_NAME else ()))
    one = checked(record(_Written, *fields), one_of(*_FORMS, "wildcard"))
    return list_of(converted(one, _name_of(san)), least=1)


def _together(names: _Names, node: Node, report: Report) -> tuple[SanMatch, ...]:
    found = (*names.dns_names, *names.uris, *names.email_addresses, *names.ip_addresses, *names.other_names)
    if not found:
        raise fail(report, node, "no name would let nobody in: name one, or take subjectAltNames out")
    return found


SUBJECT_ALT_NAMES: Reader[tuple[SanMatch, ...]] = converted(
    record(
        _Names,
        optional("dnsNames", _names(SanType.DNS), ()),
        optional("uris", _names(SanType.URI), ()),
        optional("emailAddresses", _names(SanType.EMAIL), ()),
        optional("ipAddresses", _names(SanType.IP_ADDRESS), ()),
        optional("otherNames", _names(SanType.OTHER_NAME), ()),
    ),
    _together,
)
