from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.config.decode import (
    Reader,
    Support,
    Unreadable,
    anything,
    boolean,
    checked,
    duration,
    enum_of,
    integer,
    later,
    list_of,
    map_of,
    narrows,
    noted,
    number,
    one_of,
    optional,
    parse_duration,
    port,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Report, Severity

from .writing import parsed, shown


def refused(reader: Reader[Any], written: str) -> list[str]:
    report = Report()
    with pytest.raises(Unreadable):
        reader.read(parsed(written), report)
    return shown(report)


def accepted(reader: Reader[Any], written: str) -> object:
    report = Report()
    value = reader.read(parsed(written), report)
    assert shown(report) == []
    return value


class Mode(Enum):
    STRICT = 1
    DISABLE = 2


@pytest.mark.parametrize(
    ("reader", "written", "value"),
    [
        (text, "a b", "a b"),
        (text, "''", ""),
        (integer, "-5", -5),
        (number, "5", 5.0),
        (number, "0.5", 0.5),
        (boolean, "false", False),
        (port, "1", 1),
        (port, "65535", 65535),
        (duration, "1h30m", timedelta(minutes=90)),
        (enum_of(Mode), "STRICT", Mode.STRICT),
        (enum_of(Mode, {"OFF": Mode.DISABLE}), "OFF", Mode.DISABLE),
        (list_of(integer), "[1, 2]", (1, 2)),
        (list_of(integer), "[]", ()),
        (map_of(text), "{a: x, b.c: y}", {"a": "x", "b.c": "y"}),
    ],
)
def test_values(reader: Reader[Any], written: str, value: object) -> None:
    read = accepted(reader, written)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("reader", "written", "told"),
    [
        (text, "5", "1:1 ISM1102 expected a string, found a number"),
        (text, "~", "1:1 ISM1102 expected a string, found nothing"),
        (integer, "'5'", '1:1 ISM1102 expected an integer, found the string "5"'),
        (integer, "1.0", "1:1 ISM1102 expected an integer, found a number"),
        (integer, "true", "1:1 ISM1102 expected an integer, found a boolean"),
        (number, "true", "1:1 ISM1102 expected a number, found a boolean"),
        (number, ".nan", '1:1 ISM1102 expected a number, found the string ".nan"'),
        (boolean, "yes", '1:1 ISM1102 expected true or false, found the string "yes"'),
        (boolean, "1", "1:1 ISM1102 expected true or false, found a number"),
        (port, "0", "1:1 ISM1106 0 is not a port (1 to 65535)"),
        (port, "65536", "1:1 ISM1106 65536 is not a port (1 to 65535)"),
        (duration, "5 seconds", '1:1 ISM1106 "5 seconds" is not a duration (such as 5s, 250ms or 1h30m)'),
        (duration, "5", "1:1 ISM1102 expected a duration (such as 5s), found a number"),
        (enum_of(Mode), "strict", '1:1 ISM1106 "strict" is not one of STRICT, DISABLE (did you mean "STRICT"?)'),
        (enum_of(Mode), "x", '1:1 ISM1106 "x" is not one of STRICT, DISABLE'),
        (list_of(text), "{a: b}", "1:1 ISM1102 expected a list, found a mapping"),
        (list_of(text, least=1), "[]", "1:1 ISM1106 at least 1 entry is needed"),
        (map_of(text), "[a]", "1:1 ISM1102 expected a mapping, found a list"),
    ],
)
def test_what_is_not_a_value(reader: Reader[Any], written: str, told: str) -> None:
    assert refused(reader, written) == [told]


def test_every_bad_element_is_told() -> None:
    assert refused(list_of(integer), "[1, a, 2, b]") == [
        '1:5 ISM1102 expected an integer, found the string "a"',
        '1:11 ISM1102 expected an integer, found the string "b"',
    ]
    assert len(refused(map_of(integer), "{x: a, y: 1, z: b}")) == 2


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("0s", timedelta(0)),
        ("1.5s", timedelta(seconds=1.5)),
        ("1h0m10s", timedelta(seconds=3610)),
        ("3us", timedelta(microseconds=3)),
        ("3µs", timedelta(microseconds=3)),
    ],
)
def test_durations(written: str, value: timedelta) -> None:
    assert parse_duration(written) == value


@pytest.mark.parametrize("written", ["", "5", "s", "-5s", "5s ", "1d", "5 s", "1.s", "infinity"])
def test_what_is_no_duration(written: str) -> None:
    assert parse_duration(written) is None


@given(st.integers(0, 10**6), st.sampled_from(["h", "m", "s", "ms"]))
def test_every_whole_amount_is_a_duration(amount: int, unit: str) -> None:
    seconds = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}[unit]
    assert parse_duration(f"{amount}{unit}") == timedelta(seconds=amount * seconds)


@dataclass(frozen=True, slots=True)
class Rule:
    at: Node
    jwks_uri: str
    ports: tuple[int, ...]
    extra: Node | None


RULE = record(
    Rule,
    required("jwksUri", text),
    optional("ports", list_of(port), ()),
    optional("extra", anything),
    later("mirror"),
    narrows("exportTo"),
    noted("comment", "for people"),
)


def test_a_record_sets_attributes_and_defaults_and_keeps_its_place() -> None:
    rule = accepted(RULE, "jwksUri: u\nports: ~\nextra: {a: 1}\ncomment: hi\n")
    assert isinstance(rule, Rule)
    assert (rule.jwks_uri, rule.ports) == ("u", ())
    assert rule.extra is not None
    assert rule.extra.plain() == {"a": 1}
    assert rule.at.source.line == 1


def test_a_record_tells_all_that_is_wrong() -> None:
    assert refused(RULE, "jwksURI: u\nports: [0, x]\n") == [
        '1:1 ISM1101 no field "jwksURI" in the document (did you mean "jwksUri"?)',
        '1:1 ISM1103 the field "jwksUri" is required in the document',
        "2:9 ISM1106 0 is not a port (1 to 65535)",
        '2:12 ISM1102 expected an integer, found the string "x"',
    ]


def test_an_explicit_null_is_absent() -> None:
    assert refused(RULE, "jwksUri: ~\n") == ['1:1 ISM1103 the field "jwksUri" is required in the document']
    accepted(RULE, "jwksUri: u\nexportTo: ~\nmirror: ~\n")


def test_a_known_field_for_later_is_a_warning_and_one_that_narrows_an_error() -> None:
    report = Report()
    RULE.read(parsed("jwksUri: u\nmirror: {host: x}\n"), report)
    assert [(found.severity, found.code.id, found.path) for found in report] == [
        (Severity.WARNING, "ISM1104", "mirror")
    ]
    (told,) = refused(RULE, "jwksUri: u\nexportTo: ['.']\n")
    assert told.startswith('2:1 ISM1105 the field "exportTo" narrows who may connect or call')


def test_a_record_is_a_mapping() -> None:
    assert refused(RULE, "[a]") == ["1:1 ISM1102 expected a mapping, found a list"]


def test_fields_say_what_becomes_of_them() -> None:
    assert {field.name: field.support for field in RULE.fields} == {
        "jwksUri": Support.ENFORCED,
        "ports": Support.ENFORCED,
        "extra": Support.ENFORCED,
        "mirror": Support.LATER,
        "exportTo": Support.NARROWS,
        "comment": Support.NOTED,
    }


def test_a_check_keeps_the_name_and_refuses_by_its_reason() -> None:
    even = checked(integer, lambda value: "odd" if value % 2 else None)
    assert even.name == integer.name
    assert accepted(even, "4") == 4
    assert refused(even, "5") == ["1:1 ISM1106 odd"]


def test_only_one_of() -> None:
    either = checked(RULE, one_of("ports", "extra"))
    accepted(either, "jwksUri: u\nports: [1]\n")
    assert refused(either, "jwksUri: u\nports: [1]\nextra: x\n") == [
        "1:1 ISM1106 only one of ports, extra can be given"
    ]
