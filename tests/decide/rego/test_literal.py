from __future__ import annotations

import pytest

from isthmus.decide.rego.literal import canonical, escaped, mockable, nesting, package_of


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r'x == "\u0061"', 'x == "a"'),
        (r"x == `\u0061`", r"x == `\u0061`"),
        (r'# "\u0061"', r'# "\u0061"'),
        (r'x == $"\u0061{y}"', r'x == $"\u0061{y}"'),
        (r'x == "\q"', r'x == "\q"'),
        ("t if not a with input as {}", "t if { not a with input as {} }"),
        (
            "t if a with input as 1\n  with data.x as 2\nu := 1",
            "t if { a with input as 1\n  with data.x as 2 }\nu := 1",
        ),
        ("t if a with input as 1 # why", "t if { a with input as 1 } # why"),
        ("t if { a with input as 1 }", "t if { a with input as 1 }"),
        ('t if x == "y with z"', 't if x == "y with z"'),
        ("t if f(a with input as 1", "t if f(a with input as 1"),
    ],
)
def test_a_module_as_the_engine_reads_it(written: str, read: str) -> None:
    assert canonical(written) == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("x := input.y", "x := data.isthmus_input.y"),
        ("x := a.input", "x := a.input"),
        ('x := "input" # input', 'x := "input" # input'),
        ("import input.a as b", "import data.isthmus_input.a as b"),
        ("t if a with input as {}", "t if a with data.isthmus_input as {}"),
        ("t if a with input as f(x)", "t if a with data.isthmus_input as f(x)"),
        ("t if a with data.b as true", "t if a with data.b as true"),
        ("t if a with data.b as c.d", "t if a with data.b as [isthmus_x | isthmus_x := c.d][0]"),
    ],
)
def test_a_module_whose_input_can_be_replaced(written: str, read: str) -> None:
    assert mockable(written) == read


def test_only_what_must_be_is_escaped() -> None:
    assert escaped('é"\\\n\x01/\ud800') == 'é\\"\\\\\\n\\u0001/\ufffd'


def test_brackets_of_strings_do_not_count() -> None:
    assert nesting('f([{"a": "((((("}]) # [[[[') == 3


def test_the_package() -> None:
    assert package_of("# package no\n  package a.b # c\n") == "a.b"
    assert package_of("x := 1") is None
