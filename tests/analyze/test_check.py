from __future__ import annotations

from isthmus.analyze import CHECKS
from isthmus.analyze.check import listed


def test_checks_have_names_and_codes_of_their_own() -> None:
    names = [check.name for check in CHECKS]
    ids = [code.id for check in CHECKS for code in check.codes]
    assert len(set(names)) == len(names)
    assert len(set(ids)) == len(ids)
    assert all(code.startswith("ISM5") for code in ids)


def test_a_list_names_three() -> None:
    assert listed([]) == ""
    assert listed(["a", "b", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
