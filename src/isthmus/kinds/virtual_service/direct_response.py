"""``http[].directResponse``: the proxy answers by itself."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from isthmus.config.decode import Reader, checked, fail, integer, one_of, optional, record, required, text
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.model.route import DirectResponse

_LARGEST = 1024 * 1024
_WITHOUT_BODY = (204, 304)


@dataclass(frozen=True, slots=True)
class _Body:
    at: Node
    string: str | None
    bytes: bytes | None


@dataclass(frozen=True, slots=True)
class _DirectResponse:
    at: Node
    status: int
    body: _Body | None


def _status_problem(status: int) -> str | None:
    return None if 200 <= status <= 599 else f"{status} is not an HTTP status that can be answered (200 to 599)"


def _bytes(written: str, node: Node, report: Report) -> bytes:
    try:
        return base64.b64decode(written, validate=True)
    except binascii.Error:
        raise fail(report, node, "bytes are written in base64") from None


def _direct_response(written: _DirectResponse, node: Node, report: Report) -> DirectResponse:
    content: str | bytes = ""
    if written.body is not None:
        content = written.body.bytes if written.body.bytes is not None else written.body.string or ""
    raw = content.encode() if isinstance(content, str) else content
    if len(raw) > _LARGEST:
        raise fail(report, node.at("body"), f"a body of {len(raw)} bytes is too large (at most {_LARGEST})")
    if raw and written.status in _WITHOUT_BODY:
        raise fail(report, node.at("body"), f"an answer with status {written.status} has no body")
    return DirectResponse(written.status, content)


_BODY = checked(
    record(_Body, optional("string", text), optional("bytes", converted(text, _bytes))), one_of("string", "bytes")
)
DIRECT_RESPONSE: Reader[DirectResponse] = converted(
    record(_DirectResponse, required("status", checked(integer, _status_problem)), optional("body", _BODY)),
    _direct_response,
)
