"""Every code is well formed, and some test asserts it by name."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from isthmus.model.reason import REASONS
from isthmus.model.refusal import Reason

TESTS = Path(__file__).parents[1]


def each_reason() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("reason", REASONS, ids=[reason.code for reason in REASONS])


def test_a_code_means_one_thing() -> None:
    assert [code for code, count in Counter(reason.code for reason in REASONS).items() if count > 1] == []


@each_reason()
def test_it_explains_itself(reason: Reason) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+|overloaded|misdirected", reason.code)
    assert reason.status is None or 400 <= reason.status < 600
    assert reason.about.endswith(".")
    assert "`" not in reason.about, "a client may read it"
    assert reason.fix.endswith((".", "?")), "whole sentences"


def test_each_is_asserted_by_a_test() -> None:
    texts = "\n".join(
        path.read_text()
        for path in sorted(TESTS.rglob("*.py"))
        if path.name not in ("test_reason.py", "test_reasons.py")
    )
    texts += (TESTS / "real" / "test_reasons.py").read_text() + (TESTS / "xds" / "test_reason.py").read_text()
    assert [reason.code for reason in REASONS if f'"{reason.code}"' not in texts] == []
