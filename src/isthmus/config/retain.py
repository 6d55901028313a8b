"""What stays in force although it is not in the files as they are now. Half-written files are normal."""

from __future__ import annotations

import os
from collections.abc import Callable

from isthmus.config.documents import identity
from isthmus.config.load import Loaded
from isthmus.config.resource import Document
from isthmus.diag import Ref


def retain(previous: tuple[Document, ...], now: Loaded) -> tuple[Document, ...]:
    """``now``'s documents and those of ``previous`` whose absence proves nothing.

    While a document of a file does not parse, every resource that the file gave before and does not give now stays;
    so it does while the file is empty or unreadable. What has moved to another file is taken from there.
    """
    # A folder that cannot be listed speaks for none of the files below it.
    folders = tuple(name.rstrip(os.sep) + os.sep for name in now.unsure)

    def unsure(document: Document) -> bool:
        return document.source.file in now.unsure or document.source.file.startswith(folders)

    return _merge(previous, now.documents, unsure if now.unsure else lambda document: False)


def hold(previous: tuple[Document, ...], now: tuple[Document, ...]) -> tuple[Document, ...]:
    """``now`` and everything of ``previous`` that vanished: what is in force until a removal is certain."""
    return _merge(previous, now, lambda document: True)


def _merge(
    previous: tuple[Document, ...], now: tuple[Document, ...], stays: Callable[[Document], bool]
) -> tuple[Document, ...]:
    """Put those of ``previous`` that stay behind their former neighbours: the order decides who is the older."""
    given = {identity(document) for document in now}
    followers: dict[tuple[str, Ref] | None, list[Document]] = {}
    neighbour: tuple[str, Ref] | None = None
    for document in previous:
        if identity(document) in given:
            neighbour = identity(document)
        elif stays(document):
            followers.setdefault(neighbour, []).append(document)
    if not followers:
        return now
    merged = followers.get(None, [])
    for document in now:
        merged += (document, *followers.get(identity(document), ()))
    return tuple(merged)
