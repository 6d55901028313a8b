from __future__ import annotations

from isthmus.config.load import Loaded
from isthmus.config.resource import Document
from isthmus.config.retain import hold, retain
from isthmus.diag import Report

from .writing import documents, service


def gave(file: str, *names: str, note: str = "") -> tuple[Document, ...]:
    return documents("---\n".join(service(name, note) for name in names), file)


def loaded(*given: Document, unsure: set[str] | None = None) -> Loaded:
    return Loaded(given, Report(), (), frozenset(unsure or ()))


def names(given: tuple[Document, ...]) -> str:
    return "".join(document.ref.name for document in given)


def test_a_sure_file_s_word_is_taken() -> None:
    now = loaded(*gave("f", "a"))
    assert retain(gave("f", "a", "b"), now) is now.documents


def test_what_an_unsure_file_no_longer_gives_stays_in_its_place() -> None:
    now = loaded(*gave("f", "a", "c", "e"), *gave("g", "x"), unsure={"f"})
    assert names(retain(gave("f", "z", "a", "b", "c", "d") + gave("g", "x", "y"), now)) == "zabcdex"


def test_what_an_unsure_file_gives_anew_is_taken() -> None:
    now = loaded(*gave("f", "a", note="new"), unsure={"f"})
    assert [d.labels["note"] for d in retain(gave("f", "a", "b", note="old"), now)] == ["new", "old"]


def test_what_has_moved_to_another_file_is_taken_from_there() -> None:
    now = loaded(*gave("g", "a", note="new"), unsure={"f"})
    assert [d.labels["note"] for d in retain(gave("f", "a", note="old"), now)] == ["new"]


def test_a_folder_that_cannot_be_listed_keeps_what_is_below_it() -> None:
    previous = gave("dir/f.yaml", "a") + gave("dir2/f.yaml", "b") + gave("dir/sub/g.yaml", "c")
    assert names(retain(previous, loaded(unsure={"dir"}))) == "ac"
    assert names(retain(previous, loaded(unsure={"dir/"}))) == "ac"


def test_nothing_before() -> None:
    now = loaded(*gave("f", "a"), unsure={"f"})
    assert retain((), now) is now.documents


def test_hold_keeps_everything_that_vanished() -> None:
    assert names(hold(gave("f", "a", "b", "c"), gave("f", "b", "d"))) == "abcd"
    assert names(hold(gave("f", "a"), ())) == "a"


def test_merging_leaves_its_inputs_alone() -> None:
    previous, now = gave("f", "a", "b"), gave("f", "b")
    assert names(hold(previous, now)) == names(hold(previous, now)) == "ab"
    assert (names(previous), names(now)) == ("ab", "b")
