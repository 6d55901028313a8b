from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from isthmus.config.parse import MAX_DEPTH, MAX_NODES, parse, plain_scalar
from isthmus.diag import Report

from .writing import faults, parsed, shown

TEXT = """\
# a comment
kind: VirtualService
metadata:
  labels:
    app.kubernetes.io/name: web
spec:
  http:
    - route:
        - destination: {host: "cart", port: {number: 80}}
    - ümlaut: [a, é, b]
"""


def test_every_value_knows_its_place_and_path() -> None:
    root = parsed(TEXT)
    places = {node.path: (node.source.line, node.source.column) for node in root.walk() if not node.is_mapping}
    assert places == {
        "kind": (2, 7),
        'metadata.labels["app.kubernetes.io/name"]': (5, 29),
        "spec.http": (8, 5),
        "spec.http[0].route": (9, 9),
        "spec.http[0].route[0].destination.host": (9, 31),
        "spec.http[0].route[0].destination.port.number": (9, 54),
        "spec.http[1].ümlaut": (10, 15),
        "spec.http[1].ümlaut[0]": (10, 16),
        "spec.http[1].ümlaut[1]": (10, 19),
        "spec.http[1].ümlaut[2]": (10, 22),
    }
    assert {node.source.file for node in root.walk()} == {"t.yaml"}
    assert root.at("spec").keys["http"].line == 7
    assert str(root.at("spec", "http", 0).key("route").source) == "t.yaml:8:7"


def test_lines_count_from_where_the_document_begins() -> None:
    node = parse("a: 1\nb:\n  c: 2\n", "t.yaml", 40, Report())
    assert node is not None
    assert str(node.at("b", "c").source) == "t.yaml:42:6"
    assert shown(faults("a: 1\nb: [\n", 40))[0].startswith("42:1 ISM1001")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("n", "n"),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-7", -7),
        ("+7", 7),
        ("0", 0),
        ("0644", 0o644),
        ("0o17", 0o17),
        ("0899", 899),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.10.2", "1.10.2"),
        ("1_000", "1_000"),
        ("22:22", "22:22"),
        ("2026-01-02", "2026-01-02"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ("9" * 30, int("9" * 30)),
        ("9" * 5000, "9" * 5000),
        ("-", "-"),
        ("=", "="),
    ],
)
def test_what_an_unquoted_scalar_stands_for(written: str, value: object) -> None:
    assert plain_scalar(written) == value
    assert type(plain_scalar(written)) is type(value)


def test_quotes_and_blocks_make_strings() -> None:
    assert parsed("a: 'true'\nb: \"12\"\nc: |\n  null\nd: >-\n  x\n  y\ne: ! 5\nf: ! [x]\n").plain() == {
        "a": "true",
        "b": "12",
        "c": "null\n",
        "d": "x y",
        "e": "5",
        "f": ["x"],
    }


def test_tags_of_json_types_are_followed() -> None:
    assert parsed("a: !!str 12\nb: !!int 12\nc: !!float 1\nd: !!map {x: !!seq [1]}\n").plain() == {
        "a": "12",
        "b": 12,
        "c": 1,
        "d": {"x": [1]},
    }


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: !vault x", "1:4"),
        ("a: !!binary aGk=", "1:4"),
        ("a: !!int x", "1:4"),
        ("a: !!set {x}", "1:4"),
        ("!x [1]", "1:1"),
    ],
)
def test_other_tags_are_refused(text: str, place: str) -> None:
    assert [line[: len(place) + 8] for line in shown(faults(text))] == [f"{place} ISM1012"]


def test_a_tab_is_told_plainly() -> None:
    told = "ISM1002 a tab is used for indentation; YAML takes only spaces"
    assert shown(faults("a:\n\tb: 1\n")) == [f"2:1 {told}"]
    assert shown(faults("a:\n  b: 1\n\tc: 1\n")) == [f"3:1 {told}"]
    assert shown(faults("a: |\n  x\n\ty\n")) == [f"3:1 {told}"]


def test_tabs_in_json_are_fine_and_not_blamed() -> None:
    assert parsed('{\n\t"a":1,\n\t"b": [true]\n}').plain() == {"a": 1, "b": [True]}
    assert [d.code.id for d in faults('{\n\t"a": 1\n\t"b": 2\n}')] == ["ISM1001"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1, 2\n", "2:1 ISM1001 while parsing a flow sequence: did not find expected ',' or ']'"),
        ("a: 1\n b: 2\n", "2:3 ISM1001 mapping values are not allowed in this context"),
        ("a: *x\n", '1:4 ISM1001 no anchor "x" before this alias'),
        ("a: &x [*x]\n", '1:8 ISM1001 no anchor "x" before this alias'),
        ("é: 'é\u0007'\n", "1:6 ISM1001 control characters are not allowed"),
        ("a: 1\rb: 2\r---\rc: 3\r", "3:1 ISM1001 a second document begins here"),
        ("<<: 5\n", '1:1 ISM1001 "<<" takes a mapping or a list of mappings'),
    ],
)
def test_what_is_not_yaml(text: str, told: str) -> None:
    assert shown(faults(text)) == [told]


def test_a_duplicate_key_is_told_at_the_second_with_the_line_of_the_first() -> None:
    assert shown(faults("a: 1\nb:\n  x: 1\n  y: 2\n  x: 3\na: 2\n")) == [
        '5:3 ISM1003 the key "x" is here already, at line 3',
        '6:1 ISM1003 the key "a" is here already, at line 1',
    ]


def test_duplicates_and_a_later_fault_are_both_told() -> None:
    assert [d.code.id for d in faults("a: 1\na: 2\nb: ]\n")] == ["ISM1003", "ISM1001"]


def test_whole_numbers_as_keys_are_their_digits() -> None:
    root = parsed("portLevelMtls:\n  8080: {mode: DISABLE}\n")
    assert root.plain() == {"portLevelMtls": {"8080": {"mode": "DISABLE"}}}
    assert root.at("portLevelMtls", "8080", "mode").path == "portLevelMtls.8080.mode"


def test_other_keys_are_refused() -> None:
    assert shown(faults("true: a\n1.5: b\n~: c\n? [x]\n: d\n? {y: 1}\n: e\n")) == [
        "1:1 ISM1011 a key must be a string, found true",
        "2:1 ISM1011 a key must be a string, found 1.5",
        "3:1 ISM1011 a key must be a string, found ~",
        "4:3 ISM1011 a key must be a string, found a list or a mapping",
        "6:3 ISM1011 a key must be a string, found a list or a mapping",
    ]


def test_aliases_stand_for_what_is_written_at_the_anchor() -> None:
    root = parsed("a: &x {h: [1]}\nb: {c: *x}\n&k d: *k\n")
    assert root.plain() == {"a": {"h": [1]}, "b": {"c": {"h": [1]}}, "d": "d"}
    aliased = root.at("b", "c", "h", 0)
    assert aliased.path == "b.c.h[0]"
    assert str(aliased.source) == "t.yaml:1:12"


def test_merge_keys_give_way_to_what_is_said_and_the_first_to_none() -> None:
    root = parsed(
        "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  <<: [*x, *y]\n  a: 0\nw: {<<: *y, 'v': {<<: {d: 4}}}\n"
    )
    assert root.at("z").plain() == {"a": 0, "b": 1, "c": 2}
    assert root.at("w").plain() == {"b": 2, "c": 2, "v": {"d": 4}}
    assert root.at("z", "c").path == "z.c"
    assert root.at("z").keys["c"].line == 2
    assert parsed("'<<': 1\n").plain() == {"<<": 1}


def test_a_billion_laughs_are_refused_quickly() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert [d.code.id for d in faults("\n".join(levels))] == ["ISM1013"]


def test_many_values_are_refused() -> None:
    assert len(parsed("[" + "1," * (MAX_NODES - 1) + "]").items) == MAX_NODES - 1
    assert [d.code.id for d in faults("[" + "1," * MAX_NODES + "]")] == ["ISM1013"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2),
        "{a: " * 500,
        "- " * 500 + "x",
        "a: &a " + "[" * 60 + "]" * 60 + "\nb: " + "[" * 60 + "*a" + "]" * 60,
    ],
)
def test_depth_is_refused_and_never_ends_the_process(text: str) -> None:
    assert [d.code.id for d in faults(text)] == ["ISM1013"]


def test_text_of_nothing_is_nothing() -> None:
    report = Report()
    assert parse("# only a comment\n", "t.yaml", 1, report) is None
    assert not len(report)


def test_json_escapes_beyond_the_first_plane() -> None:
    value = {"smile": '😀 \\ud83d / " é', "plain": ["\ud7ff"]}
    assert parsed(json.dumps(value)).plain() == value
    assert [d.code.id for d in faults('{"half": "\\ud83d"}')] == ["ISM1001"]


class Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.2 would not read back as a string; PyYAML itself knows 1.1."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode and implicit[0] and value != "<<":
            names = {str: "str", int: "int", float: "float", bool: "bool", type(None): "null"}
            return f"tag:yaml.org,2002:{names[type(plain_scalar(value))]}"
        return str(super().resolve(kind, value, implicit))


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=12)
structures = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(texts, below, max_size=4),
    max_leaves=12,
)


@given(structures)
@example({"<<": "<<", "0o7": "0o7", "1e3": ["1e3", "on", "2026-01-02", "=", "~", ""]})
def test_what_yaml_writes_is_read_back(value: object) -> None:
    report = Report()
    node = parse(yaml.dump(value, Dumper=Dumper, allow_unicode=True), "t.yaml", 1, report)
    assert not list(report)
    assert node is not None
    assert node.plain() == value


@given(structures)
def test_what_json_writes_is_read_back(value: object) -> None:
    assert parsed(json.dumps(value)).plain() == value


@given(st.text(st.sampled_from("ab:-[]{},&*!|>'\"%@`#?<\t\n\r 01~"), max_size=40))
def test_no_text_raises(text: str) -> None:
    report = Report()
    node = parse(text, "t.yaml", 1, report)
    assert node is None or not len(report)
    lines = text.count("\n") + text.count("\r") + 2
    assert all(1 <= found.source.line <= lines and found.source.column >= 1 for found in report)
