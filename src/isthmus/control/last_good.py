"""The last good documents, kept in the state for a start whose manifests have errors.

Secrets are left out: a user's key is in the user's own file and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol

from isthmus.config.node import Node
from isthmus.config.resource import Document
from isthmus.diag import Ref, Source

_FILE = "manifests/last-good.json"


class PrivateFiles(Protocol):
    """The state directory, as far as this needs it."""

    def read(self, name: str) -> bytes | None: ...
    def write_private(self, name: str, data: bytes) -> None: ...


class LastGood:
    """Saves and loads. A file that cannot be understood counts as none."""

    def __init__(self, state: PrivateFiles) -> None:
        self._state = state
        self._saved: dict[str, str] = {}
        """The text of each document, by what tells it apart: those that stay are not written out again."""

    def save(self, documents: Iterable[Document]) -> None:
        kept = [document for document in documents if document.ref.kind != "Secret"]
        keys = [f"{document.ref} {document.source} {document.digest}" for document in kept]
        if keys != list(self._saved):
            texts = {
                key: self._saved.get(key) or json.dumps(_to_json(document))
                for key, document in zip(keys, kept, strict=True)
            }
            self._state.write_private(_FILE, f"[{','.join(texts.values())}]".encode())
            self._saved = texts

    def load(self) -> tuple[Document, ...]:
        raw = self._state.read(_FILE)
        if raw is None:
            return ()
        try:
            return tuple(_from_json(value) for value in json.loads(raw))
        except (ValueError, KeyError, TypeError, AttributeError):
            return ()


def _to_json(document: Document) -> dict[str, Any]:
    return {
        "apiVersion": document.api_version,
        "ref": [document.ref.kind, document.ref.namespace, document.ref.name],
        "source": _place(document.source),
        "labels": dict(document.labels),
        "annotations": dict(document.annotations),
        "digest": document.digest,
        "root": _node_to_json(document.root),
    }


def _place(source: Source) -> list[Any]:
    return [source.file, source.line, source.column]


def _node_to_json(node: Node) -> dict[str, Any]:
    value: Any = node.value
    if node.is_mapping:
        value = {key: _node_to_json(below) for key, below in node.mapping.items()}
    elif node.is_sequence:
        value = [_node_to_json(below) for below in node.items]
    keys = {key: _place(source) for key, source in node.keys.items()}
    return {"s": _place(node.source), "p": node.path, "v": value, "k": keys}


def _from_json(value: dict[str, Any]) -> Document:
    ref = Ref(*value["ref"])
    return Document(
        value["apiVersion"],
        ref,
        Source(*value["source"]),
        value["labels"],
        value["annotations"],
        _node_from_json(value["root"], ref),
        value["digest"],
    )


def _node_from_json(value: dict[str, Any], ref: Ref) -> Node:
    below: Any = value["v"]
    if isinstance(below, dict):
        below = {key: _node_from_json(entry, ref) for key, entry in below.items()}
    elif isinstance(below, list):
        below = tuple(_node_from_json(entry, ref) for entry in below)
    keys = {key: Source(*source) for key, source in value["k"].items()}
    return Node(below, Source(*value["s"]), value["p"], ref, keys)
