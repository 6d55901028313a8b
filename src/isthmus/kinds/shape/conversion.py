"""Readers made of readers: read, then turn the value into another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from isthmus.config.decode import Reader
from isthmus.config.node import Node
from isthmus.diag import Report

T = TypeVar("T")
U = TypeVar("U")


def converted(reader: Reader[T], convert: Callable[[T, Node, Report], U]) -> Reader[U]:
    """``reader``, its value turned by ``convert``, which raises ``decode.Unreadable`` after reporting why it cannot."""

    def read(node: Node, report: Report) -> U:
        return convert(reader.read(node, report), node, report)

    return Reader(reader.name, read, reader.fields, reader.item)
