"""What the tests of this folder write and read again and again."""

from __future__ import annotations

from isthmus.config.documents import Read, read
from isthmus.config.node import Node
from isthmus.config.parse import parse
from isthmus.config.resource import Document
from isthmus.config.split import split
from isthmus.diag import Diagnostic, Report


def service(name: str, note: str = "", namespace: str = "shop") -> str:
    """The text of a small valid document."""
    metadata = f"  name: {name}\n  namespace: {namespace}\n  labels: {{note: '{note}'}}\n"
    return f"apiVersion: v1\nkind: Service\nmetadata:\n{metadata}"


def parsed(text: str) -> Node:
    """The tree of a text that has no fault."""
    report = Report()
    node = parse(text, "t.yaml", 1, report)
    assert not list(report)
    assert node is not None
    return node


def faults(text: str, first_line: int = 1) -> list[Diagnostic]:
    """What is wrong with a text that cannot be used."""
    report = Report()
    assert parse(text, "t.yaml", first_line, report) is None
    return list(report)


def shown(found: list[Diagnostic] | Report) -> list[str]:
    return [f"{d.source.line}:{d.source.column} {d.code.id} {d.message}" for d in found]


def read_text(text: str, report: Report, file: str = "t.yaml") -> list[Read]:
    results = []
    for piece in split(text):
        root = parse(piece.text, file, piece.first_line, report)
        assert root is not None
        results.append(read(root, piece.digest, "default", report))
    return results


def documents(text: str, file: str = "t.yaml") -> tuple[Document, ...]:
    """The documents of a text that has no fault."""
    report = Report()
    found = tuple(document for result in read_text(text, report, file) for document in result.documents)
    assert not list(report)
    return found
