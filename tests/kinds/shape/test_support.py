from __future__ import annotations

import pytest

from isthmus.config.decode import Support, Unreadable, record
from isthmus.config.node import Node
from isthmus.config.parse import parse
from isthmus.diag import Report
from isthmus.kinds.shape.support import EXPORT_TO, refused

FIELDS = (refused("delegate", "another route answers"), EXPORT_TO)
READER = record(lambda at, **fields: fields, *FIELDS)


def read(text: str) -> Report:
    report = Report()
    node = parse(text, "test", 1, report)
    assert isinstance(node, Node)
    try:
        READER.read(node, report)
    except Unreadable:
        assert report.errors
    return report


@pytest.mark.parametrize("text", ["{}", 'exportTo: ["*"]', "exportTo: []", "delegate: null"])
def test_what_changes_nothing_is_taken(text: str) -> None:
    assert not list(read(text))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('exportTo: ["."]', "ISM1105"),
        ('exportTo: ["*", a]', "ISM1105"),
        ("exportTo: a", "ISM1102"),
        ("delegate: {}", "ISM2101"),
    ],
)
def test_what_would_be_lost_is_refused(text: str, code: str) -> None:
    (found,) = read(text)
    assert found.code.id == code


def test_the_message_says_what_would_happen() -> None:
    (found,) = read("delegate: {}")
    assert found.message == (
        'the field "delegate" is not supported yet, and without it another route answers: refused, not ignored'
    )


def test_the_reference_calls_them_refused() -> None:
    assert {field.support for field in FIELDS} == {Support.NARROWS}
