"""The text of a file, cut into its documents before any is parsed: one that does not parse spares the rest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

# At column 0 both end whatever is open, block scalars too, so they can be found without parsing (YAML 1.2.2, 9.1.2).
# Led by its line feed, so that the search skips from line to line; "^" is slower.
_MARKER = re.compile(r"\n(?:---|\.\.\.)(?=[ \t\r\n]|\Z)")
_BLANK = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*[ \t]*(?:#[^\n]*)?\Z")
_PROLOGUE = re.compile(r"(?:(?:%[^\n]*|[ \t]*(?:#[^\n]*)?)\r?\n)*\Z")


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of one document. ``first_line`` counts from 1; ``digest`` is the SHA-256 of the text, in hex."""

    text: str
    first_line: int
    digest: str


def split(text: str) -> tuple[Piece, ...]:
    """Cut ``text`` at its document markers (``---`` and ``...``); documents of nothing but comments are left out.

    JSON passes through as the one document it is: no line of it can be a marker. Directives (``%YAML``) before a
    ``---`` go: they change nothing in what we read. Nothing is checked here; the parser sees whatever is odd.
    """
    pieces: list[Piece] = []
    start, line = 0, 1
    marker_line, counted = 1, 0
    for match in _MARKER.finditer("\n" + text):
        marker = match.start()
        marker_line += text.count("\n", counted, marker)
        counted = marker
        opens = text[marker] == "-"
        _add(pieces, text[start:marker], line, before_document=opens)
        end = text.find("\n", marker) + 1 or len(text)
        # What follows "---" on its line belongs to the document and needs the marker to keep its meaning.
        if opens and not _BLANK.match(text[marker + 3 : end]):
            start, line = marker, marker_line
        else:
            start, line = end, marker_line + 1
    _add(pieces, text[start:], line, before_document=False)
    return tuple(pieces)


def _add(pieces: list[Piece], text: str, line: int, *, before_document: bool) -> None:
    if _BLANK.match(text) or (before_document and _PROLOGUE.match(text)):
        return
    pieces.append(Piece(text, line, sha256(text.encode()).hexdigest()))
