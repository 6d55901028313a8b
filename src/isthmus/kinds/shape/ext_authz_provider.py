"""External authorizers, as a mesh configuration names them: envoyExtAuthzHttp and envoyExtAuthzGrpc.

Source: istio/api mesh/v1alpha1/config.proto, MeshConfig.ExtensionProvider.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from isthmus.config.decode import (
    Field,
    Reader,
    boolean,
    checked,
    fail,
    integer,
    list_of,
    map_of,
    noted,
    optional,
    port,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.kinds.shape.host import name_problem, namespace_problem
from isthmus.model.settings import RequestBody


@dataclass(frozen=True, slots=True)
class _Body:
    at: Node
    max_request_bytes: int
    allow_partial_message: bool
    pack_as_bytes: bool = False


@dataclass(frozen=True, slots=True)
class _ProviderSpec:
    at: Node
    service: str
    port: int
    timeout: timedelta
    fail_open: bool
    clear_route_cache: bool
    status_on_error: int
    include_request_body_in_check: RequestBody | None


@dataclass(frozen=True, slots=True)
class GrpcProviderSpec(_ProviderSpec):
    """Nothing but what both sorts have."""


@dataclass(frozen=True, slots=True)
class HttpProviderSpec(_ProviderSpec):
    path_prefix: str
    include_headers_in_check: tuple[str, ...]
    include_request_headers_in_check: tuple[str, ...]
    include_additional_headers_in_check: dict[str, str]
    headers_to_upstream_on_allow: tuple[str, ...]
    headers_to_downstream_on_deny: tuple[str, ...]
    headers_to_downstream_on_allow: tuple[str, ...]


def _service_problem(service: str) -> str | None:
    namespace, slash, host = service.rpartition("/")
    return namespace_problem(namespace) if slash and namespace_problem(namespace) else name_problem(host)


def _status(written: str, node: Node, report: Report) -> int:
    if not written.isdecimal() or not 200 <= int(written) <= 599:
        raise fail(report, node, f'"{written}" is not an HTTP status (200 to 599)')
    return int(written)


def _body(pack_as_bytes: Field) -> Reader[RequestBody]:
    return converted(
        record(
            _Body,
            required(
                "maxRequestBytes", checked(integer, lambda size: None if size > 0 else "at least 1 byte is needed")
            ),
            optional("allowPartialMessage", boolean, False),
            pack_as_bytes,
        ),
        lambda body, node, report: RequestBody(body.max_request_bytes, body.allow_partial_message, body.pack_as_bytes),
    )


def _check(body: Reader[RequestBody]) -> tuple[Field, ...]:
    """The fields of both sorts of provider."""
    return (
        required("service", checked(text, _service_problem)),
        required("port", port),
        optional("timeout", positive_duration, timedelta(seconds=600)),
        optional("failOpen", boolean, False),
        optional("clearRouteCache", boolean, False),
        optional("statusOnError", converted(text, _status), 403),
        optional("includeRequestBodyInCheck", body),
    )


_NAMES = list_of(text)
HTTP_PROVIDER = record(
    HttpProviderSpec,
    *_check(_body(noted("packAsBytes", "over HTTP the body is sent as it is"))),
    optional("pathPrefix", text, ""),
    optional("includeHeadersInCheck", _NAMES, (), note="deprecated by Istio: includeRequestHeadersInCheck"),
    optional("includeRequestHeadersInCheck", _NAMES, ()),
    optional("includeAdditionalHeadersInCheck", map_of(text), {}),
    optional("headersToUpstreamOnAllow", _NAMES, ()),
    optional("headersToDownstreamOnDeny", _NAMES, ()),
    optional("headersToDownstreamOnAllow", _NAMES, ()),
)
GRPC_PROVIDER = record(GrpcProviderSpec, *_check(_body(optional("packAsBytes", boolean, False))))
