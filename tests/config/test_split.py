from __future__ import annotations

import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.config.split import split


def cut(text: str) -> list[tuple[int, str]]:
    return [(piece.first_line, piece.text) for piece in split(text)]


def test_one_document_is_the_whole_text() -> None:
    assert cut("a: 1\nb: 2\n") == [(1, "a: 1\nb: 2\n")]


def test_markers_separate_and_lines_count_on() -> None:
    assert cut("a: 1\n---\nb: 2\n--- # next\nc: 3") == [(1, "a: 1\n"), (3, "b: 2\n"), (5, "c: 3")]


def test_dots_end_a_document() -> None:
    assert cut("a: 1\n...\n# done\n---\nb: 2\n...\n") == [(1, "a: 1\n"), (5, "b: 2\n")]


def test_content_on_the_marker_line_keeps_its_marker() -> None:
    assert cut("a: 1\n--- {b: 2}\n--- |\n  text\n") == [(1, "a: 1\n"), (2, "--- {b: 2}\n"), (3, "--- |\n  text\n")]


def test_a_marker_at_column_0_ends_a_block_scalar_and_an_indented_one_does_not() -> None:
    assert cut("a: |\n  ---\n  x\n---\nb: 2\n") == [(1, "a: |\n  ---\n  x\n"), (5, "b: 2\n")]


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# only\n  # comments\n", "---\n---\n# c\n---\n", "%YAML 1.2\n---\n", "---"]
)
def test_documents_of_nothing_are_left_out(text: str) -> None:
    assert cut(text) == []


def test_directives_go_but_what_is_not_followed_by_a_document_stays_for_the_parser() -> None:
    assert cut("%YAML 1.2\n# c\n---\na: 1\n") == [(4, "a: 1\n")]
    assert cut("%YAML 1.2\n") == [(1, "%YAML 1.2\n")]


def test_four_dashes_and_dashes_with_text_are_no_markers() -> None:
    assert len(split("---- a\n")) == 1
    assert cut("---a: 1\n----\n") == [(1, "---a: 1\n----\n")]


def test_windows_line_ends() -> None:
    assert cut("a: 1\r\n---\r\nb: 2\r\n") == [(1, "a: 1\r\n"), (3, "b: 2\r\n")]


def test_json_is_one_document() -> None:
    text = json.dumps({"a": "---\n---\n"}, indent=2)
    assert cut(text) == [(1, text)]


def test_digest_is_of_the_text_wherever_it_stands() -> None:
    first, second = split("a: 1\n---\na: 1\n")
    assert first.digest == second.digest == sha256(b"a: 1\n").hexdigest()
    assert first.first_line != second.first_line


@given(
    st.lists(st.sampled_from(["a: 1", "# c", "---", "...", "--- x", "%YAML 1.2", "", "  - |", "   text"]), max_size=20)
)
def test_every_piece_is_a_run_of_the_lines_at_its_place(lines: list[str]) -> None:
    for piece in split("\n".join(lines)):
        inside = piece.text.split("\n")
        if inside[-1] == "":
            inside.pop()
        assert lines[piece.first_line - 1 :][: len(inside)] == inside
        assert any(line and not line.startswith("#") for line in inside)
