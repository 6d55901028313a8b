"""OPA-Envoy's input document of a CheckRequest, so that people's policies run unchanged.

``attributes`` is the request; ``parsed_path``, ``parsed_query``, ``parsed_body``, ``truncated_body``,
``source_principal`` and ``version`` stand beside it. Source: opa-envoy-plugin, envoyauth/request.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.message import Message as Part
from email.parser import BytesParser
from typing import Any
from urllib.parse import unquote

from isthmus.decide.rego.protomap import protomap
from isthmus.errors import Undecided

_VERSION = {"ext_authz": "v3", "encoding": "protojson"}
_PARTIAL = "x-envoy-auth-partial-body"
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def build_input(request: Any) -> dict[str, Any]:
    """The input document (JSON values) of an ``envoy.service.auth.v3.CheckRequest``.

    Raises Undecided: the path or the body is not what it says to be.
    """
    attributes = request.attributes
    http = attributes.request.http
    headers = dict(http.headers)
    path, query = _parsed(http.path)
    body = http.raw_body or http.body.encode()
    parsed, truncated = _body(headers, body)
    document: dict[str, Any] = {
        "attributes": protomap(attributes),
        "parsed_path": path,
        "parsed_query": query,
        "parsed_body": parsed,
        "truncated_body": truncated,
        "version": _VERSION,
    }
    if attributes.source.principal:
        document["source_principal"] = attributes.source.principal
    return document


def _parsed(target: str) -> tuple[list[str], dict[str, list[str]]]:
    """The segments, unescaped first: an escaped slash makes one more. The query's values by name."""
    path, _, query = target.partition("?")
    if _ESCAPE.search(path):
        raise Undecided("the path has an escape that is none")
    return unquote(path).lstrip("/").split("/"), _form(query, strict=False)


def _form(text: str, *, strict: bool) -> dict[str, list[str]]:
    """Go's url.ParseQuery: ``;`` separates nothing, and a pair with it, or with a broken escape, is an error.

    ``strict`` False: such a pair is left out, as in a query.
    """
    found: dict[str, list[str]] = {}
    for pair in text.split("&"):
        if not pair:
            continue
        if ";" in pair or _ESCAPE.search(pair):
            if strict:
                raise Undecided("the body is not a form")
            continue
        name, _, value = pair.replace("+", " ").partition("=")
        found.setdefault(unquote(name), []).append(unquote(value))
    return found


def _body(headers: Mapping[str, str], body: bytes) -> tuple[Any, bool]:
    """What the body says, and whether it is cut off: then nothing is said of it."""
    kind = headers.get("content-type", "")
    if headers.get(_PARTIAL) == "true":
        return None, True
    parse = next((parse for name, parse in _PARSERS if name in kind), None)
    if parse is None or parse is _nothing or not body:
        return None, False
    length = headers.get("content-length")
    if length is not None:
        if not length.isascii() or not length.isdigit():
            raise Undecided("content-length is no number")
        if int(length) > len(body):
            return None, True
    return parse(body, kind), False


def _json(body: bytes, _kind: str = "") -> Any:
    try:
        return json.loads(body.decode("utf-8", "replace"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Undecided("the body is not JSON") from None


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _urlencoded(body: bytes, _kind: str) -> Any:
    return _form(body.decode("utf-8", "replace"), strict=True)


def _multipart(body: bytes, kind: str) -> Any:
    """Values by field name, each a list; parts that are JSON are parsed."""
    whole = BytesParser().parsebytes(b"Content-Type: " + kind.encode("latin-1", "replace") + b"\r\n\r\n" + body)
    if whole.get_boundary() is None:
        return None
    if whole.defects or not whole.is_multipart():
        raise Undecided("the body is not multipart")
    found: dict[str, list[Any]] = {}
    for part in whole.get_payload():
        if isinstance(part, Part) and part.get_content_disposition() == "form-data":
            name = part.get_param("name", header="content-disposition")
            if isinstance(name, str) and name:
                found.setdefault(name, []).append(_part(part))
    return found


def _part(part: Part) -> Any:
    if part.is_multipart():
        raise Undecided("the body has parts within parts")
    # As Go's reader: base64 stays as it is.
    if str(part.get("content-transfer-encoding", "")).strip().lower() != "quoted-printable":
        del part["content-transfer-encoding"]
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes), "what has no parts has bytes"
    return (
        _json(content)
        if "application/json" in str(part.get("content-type", ""))
        else content.decode("utf-8", "replace")
    )


def _nothing(_body: bytes, _kind: str) -> None:
    """gRPC is not looked into."""


_PARSERS = (
    ("application/json", _json),
    ("application/grpc", _nothing),
    ("application/x-www-form-urlencoded", _urlencoded),
    ("multipart/form-data", _multipart),
)
