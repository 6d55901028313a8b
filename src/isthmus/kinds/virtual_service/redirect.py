"""``http[].redirect``: the caller is sent elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from isthmus.config.decode import Reader, checked, enum_of, fail, integer, one_of, optional, port, record, text
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.model.route import Redirect


class _DerivePort(Enum):
    FROM_PROTOCOL_DEFAULT = "FROM_PROTOCOL_DEFAULT"
    FROM_REQUEST_PORT = "FROM_REQUEST_PORT"


@dataclass(frozen=True, slots=True)
class _RedirectSpec:
    at: Node
    uri: str | None
    prefix_rewrite: str | None
    authority: str | None
    port: int | None
    derive_port: _DerivePort | None
    scheme: str | None
    redirect_code: int


def _redirect(written: _RedirectSpec, node: Node, report: Report) -> Redirect:
    wanted = (written.uri, written.prefix_rewrite, written.authority, written.port, written.derive_port, written.scheme)
    if all(value is None for value in wanted):
        raise fail(report, node, "a redirect needs uri, prefixRewrite, authority, port, derivePort or scheme")
    return Redirect(
        status=written.redirect_code,
        uri=written.uri,
        authority=written.authority,
        scheme=written.scheme,
        port=written.port,
        port_from_request=written.derive_port is _DerivePort.FROM_REQUEST_PORT,
        port_of_scheme=written.derive_port is _DerivePort.FROM_PROTOCOL_DEFAULT,
        prefix=written.prefix_rewrite,
    )


def _scheme_problem(scheme: str) -> str | None:
    return None if scheme in ("http", "https") else f'"{scheme}" is neither http nor https'


def _code_problem(code: int) -> str | None:
    return None if code in (301, 302, 303, 307, 308) else f"{code} is not one of 301, 302, 303, 307, 308"


def _empty_problem(written: str) -> str | None:
    return None if written else "an empty value changes nothing: leave the field out"


_TEXT = checked(text, _empty_problem)
REDIRECT: Reader[Redirect] = converted(
    checked(
        checked(
            record(
                _RedirectSpec,
                optional("uri", _TEXT),
                optional("prefixRewrite", _TEXT),
                optional("authority", _TEXT),
                optional("port", port),
                optional("derivePort", enum_of(_DerivePort)),
                optional("scheme", checked(text, _scheme_problem)),
                optional("redirectCode", checked(integer, _code_problem), 301),
            ),
            one_of("port", "derivePort"),
        ),
        one_of("uri", "prefixRewrite"),
    ),
    _redirect,
)
