"""Readers: from a Node to a typed value, every fault reported at its place.

A reader is a value, so the reference of the kinds is generated from the very readers that read. ``record`` reads a
mapping into a dataclass; each field says whether it is enforced, known but later, or known, later and narrowing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import cache
from typing import Any, Generic, TypeVar

from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

UNKNOWN_FIELD = Code(
    "ISM1101",
    Severity.ERROR,
    "Unknown field",
    'no field "{name}" in {where}{hint}',
    what="The manifest has a field that this kind does not have.",
    why="A misspelt field would otherwise do nothing, and a policy that does nothing looks like one that works.",
    example="spec:\n  selectr:\n    matchLabels: {app: orders}",
    fix="Correct the spelling, or take the field out.",
)
WRONG_TYPE = Code(
    "ISM1102",
    Severity.ERROR,
    "Wrong type",
    "expected {expected}, found {found}",
    what="A value has another type than its field takes.",
    why="Isthmus does not guess what was meant.",
    example='spec:\n  hosts: "shop.example.com"   # a list is expected',
    fix="Write the value in the type that the message names.",
)
MISSING_FIELD = Code(
    "ISM1103",
    Severity.ERROR,
    "Missing field",
    'the field "{name}" is required in {where}',
    what="A required field is not there.",
    why="Without it the object has no meaning.",
    example="jwtRules:\n  - jwksUri: https://auth.example.com/jwks   # no issuer",
    fix="Add the field.",
)
NOT_YET = Code(
    "ISM1104",
    Severity.WARNING,
    "Known field, not supported yet",
    'the field "{name}" is not supported yet and has no effect',
    what="Istio knows this field; this version of Isthmus does not act on it.",
    why="Nothing that you wrote is ignored in silence.",
    example="retries: {attempts: 2, retryRemoteLocalities: true}",
    fix="Take the field out, or live with its absence.",
)
NOT_YET_NARROWS = Code(
    "ISM1105",
    Severity.ERROR,
    "Known field that narrows access, not supported yet",
    'the field "{name}" narrows who may connect or call and is not supported yet: refused, not ignored',
    what="The field makes access narrower, and this version of Isthmus cannot enforce it.",
    why="To ignore it would let in those whom you meant to keep out.",
    example="spec:\n  exportTo: ['.']",
    fix="Take the field out if the wider access is acceptable.",
)
INVALID_VALUE = Code(
    "ISM1106",
    Severity.ERROR,
    "Invalid value",
    "{reason}",
    what="The value has the right type but is not one that the field takes.",
    why="Envoy or Istio would refuse it, or it would mean something else than it says.",
    example="timeout: 5 seconds   # a duration is written 5s",
    fix="Follow the message.",
)


class Unreadable(Exception):
    """The value could not be read; why has been reported already."""


class Support(Enum):
    """What becomes of a field that a manifest sets."""

    ENFORCED = "enforced"
    LATER = "warned about"
    NARROWS = "refused"
    NOTED = "accepted, of no consequence here"


@dataclass(frozen=True, slots=True)
class Reader(Generic[T]):
    """Reads one kind of value. ``name`` is what people are told to write; ``fields`` are a record's."""

    name: str
    read: Callable[[Node, Report], T]
    fields: tuple[Field, ...] = ()
    item: Reader[Any] | None = None
    """Of a list or a map: the reader of its elements."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record."""

    name: str
    reader: Reader[Any] | None
    required: bool = False
    default: Any = None
    support: Support = Support.ENFORCED
    note: str = ""

    @property
    def attribute(self) -> str:
        return _attribute(self.name)


@cache
def _attribute(name: str) -> str:
    """``bundleEndpointURL`` is ``bundle_endpoint_url``."""
    return re.sub(r"[A-Z]+(?![a-z])|[A-Z]", lambda m: "_" + m[0].lower(), name)


def required(name: str, reader: Reader[Any], note: str = "") -> Field:
    return Field(name, reader, required=True, note=note)


def optional(name: str, reader: Reader[Any], default: Any = None, note: str = "") -> Field:
    return Field(name, reader, default=default, note=note)


def later(name: str, note: str = "") -> Field:
    """Known to Istio, no effect yet: a warning that names it."""
    return Field(name, None, support=Support.LATER, note=note)


def narrows(name: str, note: str = "") -> Field:
    """Known to Istio, not supported yet, and it narrows who may connect or call: an error."""
    return Field(name, None, support=Support.NARROWS, note=note)


def noted(name: str, note: str) -> Field:
    """Known, read by others (Kubernetes, people) and rightly of no effect here; ``note`` says why."""
    return Field(name, None, support=Support.NOTED, note=note)


def fail(report: Report, node: Node, reason: str) -> Unreadable:
    """Report an invalid value; to be raised by the reader: ``raise fail(report, node, "...")``."""
    report.add(INVALID_VALUE, node, reason=reason)
    return Unreadable()


def found(node: Node) -> str:
    """What a person would call the value of ``node``."""
    value = node.value
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, tuple):
        return "a list"
    kinds = {bool: "a boolean", int: "a number", float: "a number"}
    return kinds.get(type(value), f'the string "{value}"')


def _mismatch(report: Report, node: Node, expected: str) -> Unreadable:
    report.add(WRONG_TYPE, node, expected=expected, found=found(node))
    return Unreadable()


def _text(node: Node, report: Report) -> str:
    if not isinstance(node.value, str):
        raise _mismatch(report, node, "a string")
    return node.value


def _integer(node: Node, report: Report) -> int:
    if isinstance(node.value, bool) or not isinstance(node.value, int):
        raise _mismatch(report, node, "an integer")
    if abs(node.value) > _LARGEST:
        raise fail(report, node, f"{node.value} is too large (at most {_LARGEST})")
    return node.value


_LARGEST = 2**31 - 1
"""Istio's integers are int32, or uint32 with no use for more."""


def _number(node: Node, report: Report) -> float:
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        raise _mismatch(report, node, "a number")
    return float(node.value)


def _boolean(node: Node, report: Report) -> bool:
    if not isinstance(node.value, bool):
        raise _mismatch(report, node, "true or false")
    return node.value


def _port(node: Node, report: Report) -> int:
    number = _integer(node, report)
    if not 1 <= number <= 65535:
        raise fail(report, node, f"{number} is not a port (1 to 65535)")
    return number


_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s|us|µs|ns)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


_LONGEST_SECONDS = 315_576_000_000.0
"""Of google.protobuf.Duration."""


def parse_duration(written: str) -> timedelta | None:
    """Go's and protobuf's duration text (``5s``, ``1h30m``, ``250ms``); None if it is not one."""
    parts = _DURATION_PART.findall(written)
    if not parts or "".join(number + unit for number, unit in parts) != written:
        return None
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return timedelta(seconds=seconds) if seconds <= _LONGEST_SECONDS else None


def _duration(node: Node, report: Report) -> timedelta:
    if not isinstance(node.value, str):
        raise _mismatch(report, node, "a duration (such as 5s)")
    parsed = parse_duration(node.value)
    if parsed is None:
        raise fail(report, node, f'"{node.value}" is not a duration (such as 5s, 250ms or 1h30m)')
    return parsed


text = Reader("a string", _text)
integer = Reader("an integer", _integer)
number = Reader("a number", _number)
boolean = Reader("true or false", _boolean)
port = Reader("a port (1 to 65535)", _port)
duration = Reader("a duration (such as 5s)", _duration)
anything: Reader[Node] = Reader("anything", lambda node, report: node)


def enum_of(kind: type[E], aliases: Mapping[str, E] | None = None) -> Reader[E]:
    """One of the member names of ``kind``."""
    members = {**kind.__members__, **(aliases or {})}

    def read(node: Node, report: Report) -> E:
        written = _text(node, report)
        if written not in members:
            close = difflib.get_close_matches(written.upper(), members, 1)
            hint = f' (did you mean "{close[0]}"?)' if close else ""
            raise fail(report, node, f'"{written}" is not one of {", ".join(members)}{hint}')
        return members[written]

    return Reader("one of " + ", ".join(members), read)


def list_of(item: Reader[T], *, least: int = 0) -> Reader[tuple[T, ...]]:
    """A list; a bad element is reported and the others are read, then the whole is unreadable."""

    def read(node: Node, report: Report) -> tuple[T, ...]:
        if not node.is_sequence:
            raise _mismatch(report, node, "a list")
        if len(node.items) < least:
            raise fail(report, node, f"at least {least} entry is needed")
        values, broken = [], False
        for element in node.items:
            try:
                values.append(item.read(element, report))
            except Unreadable:
                broken = True
        if broken:
            raise Unreadable
        return tuple(values)

    return Reader(f"a list of {item.name}", read, item=item)


def map_of(item: Reader[T]) -> Reader[dict[str, T]]:
    """A mapping with free keys."""

    def read(node: Node, report: Report) -> dict[str, T]:
        if not node.is_mapping:
            raise _mismatch(report, node, "a mapping")
        values, broken = {}, False
        for key, element in node.mapping.items():
            try:
                values[key] = item.read(element, report)
            except Unreadable:
                broken = True
        if broken:
            raise Unreadable
        return values

    return Reader(f"a map to {item.name}", read, item=item)


def checked(reader: Reader[T], check: Callable[[T], str | None]) -> Reader[T]:
    """``reader``, whose value must pass: ``check`` answers None, or what is wrong with it."""

    def read(node: Node, report: Report) -> T:
        value = reader.read(node, report)
        wrong = check(value)
        if wrong is not None:
            raise fail(report, node, wrong)
        return value

    return Reader(reader.name, read, reader.fields, reader.item)


def one_of(*names: str) -> Callable[[Any], str | None]:
    """A check of records: at most one of the attributes ``names`` is set (protobuf's oneof)."""

    def check(value: Any) -> str | None:
        given = [name for name in names if value.at.get(name) is not None]
        return f"only one of {', '.join(given)} can be given" if len(given) > 1 else None

    return check


def record(kind: Callable[..., T], *fields: Field) -> Reader[T]:
    """A mapping, read into ``kind(at=node, attribute=value, ...)``: ``kind`` has a field ``at: Node`` for its place.

    A field named ``jwksUri`` sets the attribute ``jwks_uri``. An explicit null counts as absent, as Kubernetes has it.
    """
    known = {field.name: field for field in fields}

    def read(node: Node, report: Report) -> T:
        if not node.is_mapping:
            raise _mismatch(report, node, "a mapping")
        broken = report_unknown(node, known, report)
        values: dict[str, Any] = {}
        for field in fields:
            given = node.mapping.get(field.name)
            absent = given is None or given.value is None
            if field.reader is None:
                if not absent:
                    broken |= _report_unsupported(field, node, report)
                continue
            if absent:
                # A field that is read only to be refused has no place in the spec.
                if field.support is Support.ENFORCED:
                    values[field.attribute] = field.default
                if field.required:
                    report.add(MISSING_FIELD, node, name=field.name, where=node.path or "the document")
                    broken = True
                continue
            assert given is not None
            try:
                value = field.reader.read(given, report)
            except Unreadable:
                broken = True
                continue
            if field.support is Support.ENFORCED:
                values[field.attribute] = value
        if broken:
            raise Unreadable
        return kind(at=node, **values)

    return Reader("a mapping", read, tuple(fields))


def report_unknown(node: Node, known: Mapping[str, object], report: Report) -> bool:
    """Report the keys of ``node`` that are not ``known``; say whether there were any."""
    broken = False
    for key in node.mapping:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1, 0.6)
            hint = f' (did you mean "{close[0]}"?)' if close else ""
            report.add(UNKNOWN_FIELD, node.key(key), name=key, where=node.path or "the document", hint=hint)
            broken = True
    return broken


def _report_unsupported(field: Field, node: Node, report: Report) -> bool:
    if field.support is Support.NOTED:
        return False
    code = NOT_YET_NARROWS if field.support is Support.NARROWS else NOT_YET
    report.add(code, node.key(field.name), name=field.name)
    return field.support is Support.NARROWS
