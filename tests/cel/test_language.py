from __future__ import annotations

import pytest

from isthmus.cel.language import LONGEST, Checked, Fault, check


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("claims.sub == user", Fault("undeclared reference to 'user'", 1, 15)),
        ("method == 1", Fault("found no matching overload for '_==_' applied to '(string, int)'", 1, 8)),
        ("has(claims.x) &&\n  claims.y == zz", Fault("undeclared reference to 'zz'", 2, 15)),
        ("source.name == 'x'", Fault("undeclared reference to 'source.name'", 1, 7)),
        ("claims.sub.foo()", Fault("undeclared reference to 'foo'", 1, 15)),
        ("size(scopes)", Fault("a condition is true or false, and this is int")),
        ("  ", Fault("the condition is empty")),
        ("x" * (LONGEST + 1), Fault(f"a condition has at most {LONGEST} characters")),
    ],
)
def test_a_fault_and_its_place(text: str, fault: Fault) -> None:
    assert check(text) == fault


@pytest.mark.parametrize("text", ["1 +", "claims.sub = 1", "claims.sub ==", "'", "a b"])
def test_what_does_not_parse(text: str) -> None:
    found = check(text)
    assert isinstance(found, Fault)
    assert "yntax error" in found.message


@pytest.mark.parametrize("text", ["claims.admin", "claims.sub == params.user", "now.getHours('Europe/Berlin') > 8"])
def test_a_good_one(text: str) -> None:
    assert isinstance(check(text), Checked)


def test_the_place_of_a_part() -> None:
    found = check("claims.a == 'x' &&\n claims.b == 'y'")
    assert isinstance(found, Checked)
    second = found.expr.call_expr.args[1].call_expr.args[0]
    assert found.fault(second, "here") == Fault("here", 2, 8)
