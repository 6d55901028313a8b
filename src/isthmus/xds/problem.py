"""Problem documents (RFC 9457): what a client is told of a refusal, where its gateway's ClientTrafficPolicy says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import (
    accesslog_v3,
    cel_access_log_filter_v3,
    core_v3,
    http_connection_manager_v3,
    protobuf,
)
from isthmus.model.client_traffic import Problems
from isthmus.model.reason import REASONS
from isthmus.model.refusal import URN
from isthmus.xds.reason import own_body, reason_of_request, title_of_request

CONTENT_TYPE = "application/problem+json"
_EXTERNAL = "provider-denied"
"""An external provider answers with a body of its own: a login page, for one."""
_TOLD = tuple(reason for reason in REASONS if reason.code != _EXTERNAL)
_CODE = reason_of_request(_TOLD, '""')
_TITLE = title_of_request(_TOLD, '""')
# A gRPC client would find the document in its grpc-message.
_GRPC = '"content-type" in request.headers && request.headers["content-type"].startsWith("application/grpc")'


_PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    413: "Content Too Large",
    421: "Misdirected Request",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
"""RFC 9110, section 15, and RFC 6585: of every status that a refusal has."""


def agreed(each: Iterable[Problems | None]) -> Problems | None:
    """What servers that share a connection manager say together: nothing, unless all say the same."""
    said = set(each)
    return said.pop() if len(said) == 1 else None


def problem_mapper(problems: Problems) -> Any:
    """A ResponseMapper. What services and backends write themselves, and what is no refusal, stays as it is."""
    expression = f'!({_GRPC}) && !{own_body()} && ({_CODE}) != ""'
    refused = accesslog_v3.ExtensionFilter(
        name="envoy.access_loggers.extension_filters.cel",
        typed_config=any_of(cel_access_log_filter_v3.ExpressionFilter(expression=expression)),
    )
    return http_connection_manager_v3.ResponseMapper(
        filter=accesslog_v3.AccessLogFilter(extension_filter=refused), body_format_override=document(problems)
    )


def document(problems: Problems) -> Any:
    """The body of a refusal, as a SubstitutionFormatString."""
    layout = protobuf.Struct()
    layout.update(_with_reason() if problems.reason else _plain())
    return core_v3.SubstitutionFormatString(json_format=layout, content_type=CONTENT_TYPE)


def _with_reason() -> dict[str, str]:
    code = f"%CEL({_CODE})%"
    return {"type": f"{URN}{code}", "title": f"%CEL({_TITLE})%", "status": "%RESPONSE_CODE%", "reason": code}


def _plain() -> dict[str, str]:
    """``about:blank``: the title is that of the status (RFC 9457, section 4.2.1)."""
    phrases = ",".join(f'{status}:"{phrase}"' for status, phrase in _PHRASES.items())
    title = f'%CEL(response.code in {{{phrases}}} ? {{{phrases}}}[response.code] : "Error")%'
    return {"type": "about:blank", "title": title, "status": "%RESPONSE_CODE%"}
