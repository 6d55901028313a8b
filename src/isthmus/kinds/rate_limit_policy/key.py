"""``by``: what has a bucket of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass

from isthmus.config.decode import Reader, boolean, checked, fail, optional, record, text
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.model.limit import Key, KeyKind

_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^`|~-]+")


@dataclass(frozen=True, slots=True)
class _KeySpec:
    at: Node
    address: bool
    claim: str | None
    consumer: bool
    tenant: bool
    plan: bool
    header: str | None
    route: bool


def _claim_problem(name: str) -> str | None:
    return None if name else "a claim has a name"


def _header_name(written: str, node: Node, report: Report) -> str:
    name = written.lower()
    if not _HEADER.fullmatch(name):
        raise fail(report, node, f'"{written}" is not the name of a header')
    if name in ("authorization", "cookie", "proxy-authorization"):
        raise fail(report, node, f'"{written}" holds a secret, which must not become the name of a bucket')
    return name


def _key(spec: _KeySpec, node: Node, report: Report) -> Key:
    said = [KeyKind(name) for name in node.mapping if node.at(name).value is not None]
    if len(said) != 1:
        kinds = ", ".join(kind.value for kind in KeyKind)
        raise fail(report, node, f"exactly one of {kinds} stands in an entry; each further one is an entry of its own")
    kind = said[0]
    if kind is KeyKind.CLAIM:
        return Key(kind, spec.claim or "")
    if kind is KeyKind.HEADER:
        return Key(kind, spec.header or "")
    if not getattr(spec, kind.value):
        raise fail(report, node.at(kind.value), "false says nothing here: take the entry out")
    return Key(kind)


BY: Reader[Key] = converted(
    record(
        _KeySpec,
        optional("address", boolean, False, note="the client's; of IPv6 its network of 64 bits"),
        optional("claim", checked(text, _claim_problem), note="of the verified token: its name, of the first level"),
        optional("consumer", boolean, False),
        optional("tenant", boolean, False, note="the consumer's namespace"),
        optional("plan", boolean, False, note="the consumer's plan"),
        optional("header", converted(text, _header_name), note="whatever the client writes there"),
        optional("route", boolean, False, note="the http route of the VirtualService"),
    ),
    _key,
)
"""One entry of ``by``."""
