"""The generated pages are what the source says now; every code is well formed, and some test provokes it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from string import Formatter

import pytest

from isthmus.cli.reference import all_codes, named_codes, pages
from isthmus.diag import Code, Place, Report, Severity, Source

ROOT = Path(__file__).parents[1]
CODES = all_codes()


def each_code() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("code", CODES, ids=[code.id for code in CODES])


@pytest.mark.parametrize("name", sorted(pages()))
def test_the_committed_page_is_the_generated_one(name: str) -> None:
    committed = ROOT / "docs" / "reference" / name
    assert (committed.read_text() if committed.exists() else "") == pages()[name], "run `make docs`"


def test_an_id_means_one_thing() -> None:
    counts = Counter(code.id for code in CODES)
    assert [code for code, count in counts.items() if count > 1] == []


@each_code()
def test_a_code_explains_itself(code: Code) -> None:
    assert re.fullmatch(r"ISM[1-8]\d{3}|IST\d{4}", code.id)
    assert code.title
    assert not code.title.endswith(".")
    for text in (code.what, code.why, code.fix):
        assert text.endswith((".", ".)")), "whole sentences"
    assert code.example
    assert code.stops or code.severity is Severity.ERROR, "only errors can stop anything"


@each_code()
def test_its_template_takes_named_arguments(code: Code) -> None:
    fields = [name for _, name, _, _ in Formatter().parse(code.template) if name is not None]
    assert all(field.isidentifier() for field in fields)
    # Report.add has these names for itself.
    assert not {"code", "at", "severity"} & set(fields)
    numbers = dict.fromkeys(fields, 7)
    report = Report()
    report.add(code, Place(Source("shop.yaml", 1, 1)), **numbers)
    (only,) = report
    assert only.message.count("7") >= len(fields)


def test_every_code_is_provoked_by_a_test() -> None:
    """By its id, or by the name of its constant where no other code has that name."""
    texts = "\n".join(
        file.read_text() for file in sorted((ROOT / "tests").rglob("*.py")) if file.name != Path(__file__).name
    )
    words = set(re.findall(r"\w+", texts))
    names = {codes[0].id: name for name, codes in named_codes().items() if len(codes) == 1}
    assert [code.id for code in CODES if code.id not in words and names.get(code.id) not in words] == []
