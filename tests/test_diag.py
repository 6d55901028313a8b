from __future__ import annotations

import pytest

from isthmus.diag import Code, Diagnostic, Origin, Place, Ref, Report, Severity, Source

UNKNOWN = Code("ISM9001", Severity.ERROR, "Unknown", 'no "{name}"', "What.", "Why.", "example", "Fix.")
NOTE = Code("ISM9002", Severity.INFO, "Note", "by the way", "What.", "Why.", "example", "Fix.")
WEB = Ref("VirtualService", "shop", "web")


def place(line: int = 14, column: int = 7, path: str = "spec.http[0]", file: str = "shop.yaml") -> Place:
    return Place(Source(file, line, column), WEB, path)


def report(*places: Place, code: Code = UNKNOWN) -> Report:
    made = Report()
    for at in places:
        made.add(code, at, name="cart")
    return made


def only(made: Report) -> Diagnostic:
    (found,) = made
    return found


def test_a_finding_in_one_line() -> None:
    assert str(only(report(place()))) == (
        'shop.yaml:14:7: error ISM9001 VirtualService/shop/web spec.http[0]: no "cart"'
    )
    assert str(only(report(Place(Source("shop.yaml", 1, 1))))) == 'shop.yaml:1:1: error ISM9001 no "cart"'


def test_a_finding_as_json() -> None:
    assert only(report(place())).as_json() == {
        "code": "ISM9001",
        "severity": "error",
        "file": "shop.yaml",
        "line": 14,
        "column": 7,
        "resource": {"kind": "VirtualService", "namespace": "shop", "name": "web"},
        "path": "spec.http[0]",
        "message": 'no "cart"',
    }
    bare = only(report(Place(Source("shop.yaml", 1, 1)))).as_json()
    assert (bare["resource"], bare["path"]) == (None, None)


def test_the_same_finding_at_the_same_place_counts_once() -> None:
    made = report(place(), place(), place(15))
    assert len(made) == 2
    made.extend(report(place(), place(16)))
    assert len(made) == 3


def test_findings_come_by_place_then_the_worst_first() -> None:
    made = report(place(2, 1), place(1, 9), place(1, 2), place(1, 1, file="a.yaml"))
    made.add(NOTE, place(1, 2))
    assert [(one.source.file, one.source.line, one.source.column, one.severity.word) for one in made] == [
        ("a.yaml", 1, 1, "error"),
        ("shop.yaml", 1, 2, "error"),
        ("shop.yaml", 1, 2, "info"),
        ("shop.yaml", 1, 9, "error"),
        ("shop.yaml", 2, 1, "error"),
    ]


@pytest.mark.parametrize(("least", "count"), [(Severity.INFO, 2), (Severity.WARNING, 1), (Severity.ERROR, 1)])
def test_findings_of_a_severity_and_above(least: Severity, count: int) -> None:
    made = report(place())
    made.add(NOTE, place())
    assert len(made.at_least(least)) == count
    assert made.errors == made.at_least(Severity.ERROR)


def test_one_code_may_be_milder_at_one_place() -> None:
    made = Report()
    made.add(UNKNOWN, place(), severity=Severity.WARNING, name="cart")
    assert only(made).severity is Severity.WARNING
    assert made.errors == ()


def test_an_argument_that_the_text_needs_must_be_there() -> None:
    with pytest.raises(KeyError):
        Report().add(UNKNOWN, place())


def test_names_of_things() -> None:
    assert str(WEB) == "VirtualService/shop/web"
    assert str(Origin(WEB, Source("shop.yaml", 14, 7))) == "VirtualService/shop/web (shop.yaml:14:7)"
    assert Severity.INFO < Severity.WARNING < Severity.ERROR
