"""The enforced fields of every kind, listed from the readers, and the marker by which a test says which it shows.

A path is ``Kind.spec.http[].match[].uri.prefix``: ``[]`` after a list, ``.*`` for the keys of a map whose values have
fields of their own. Kinds that are a whole document have no ``spec``; the mesh configuration stands under
``ConfigMap.data.mesh``; the keys of conditions are ``AuthorizationPolicy.spec.rules[].when[KEY]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from isthmus.config.decode import Reader, Support
from isthmus.kinds import KINDS
from isthmus.kinds.authorization_policy.attribute import KEYS
from isthmus.kinds.shape.mesh_config import MESH_CONFIG


def enforces(*fields: str) -> pytest.MarkDecorator:
    """Marks a test that shows ``fields`` on real Envoy, each with a request that passes and one that does not."""
    return pytest.mark.enforces(*fields)


def enforced_fields() -> frozenset[str]:
    """Every field of every kind that a manifest can set and that has an effect; of nested fields the innermost."""
    found: set[str] = set()
    for kind in KINDS:
        if kind.name == "ConfigMap":
            found.update(_below("ConfigMap.data.mesh", MESH_CONFIG))
        else:
            found.update(_below(kind.name if kind.whole_document else f"{kind.name}.spec", kind.spec))
    key = "AuthorizationPolicy.spec.rules[].when[].key"
    found.remove(key)
    return frozenset(found | {f"{key.removesuffix('[].key')}[{written}]" for written in KEYS})


def _below(path: str, reader: Reader[Any]) -> Iterator[str]:
    for field in reader.fields:
        if field.support is Support.ENFORCED and field.reader is not None:
            yield from _field(f"{path}.{field.name}", field.reader)


def _field(path: str, reader: Reader[Any]) -> Iterator[str]:
    while reader.item is not None and (reader.fields or _has_fields(reader.item)):
        path += "[]" if reader.name.startswith("a list") else ".*"
        reader = reader.item
    if reader.fields:
        yield from _below(path, reader)
    else:
        yield path


def _has_fields(reader: Reader[Any]) -> bool:
    return bool(reader.fields) or (reader.item is not None and _has_fields(reader.item))


def shown_by(module: object) -> Iterator[tuple[str, str]]:
    """The (field, test) that the tests of ``module`` are marked with, on a test or on one of its parameters."""
    for name, function in vars(module).items():
        if not name.startswith("test_"):
            continue
        for mark in getattr(function, "pytestmark", ()):
            if mark.name == "enforces":
                yield from ((field, name) for field in mark.args)
            elif mark.name == "parametrize":
                yield from ((field, name) for field in _of_parameters(mark.args[1]))


def _of_parameters(cases: Any) -> Iterator[str]:
    for case in cases:
        for mark in getattr(case, "marks", ()):
            if mark.name == "enforces":
                yield from mark.args
