"""What a policy says, read as OPA-Envoy reads it, and the answers to Envoy that are made of it.

A boolean, or an object with ``allowed`` and what may stand beside it. Anything else is an error, and that is a denial.
Source: opa-envoy-plugin, envoyauth/response.go and internal/internal.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.envoy_api.packages import core_v3, ext_authz_service_v3, protobuf, status, type_v3
from isthmus.errors import Undecided
from isthmus.model.consumer import CLIENT_KEYS

Headers = tuple[tuple[str, str], ...]
DECISION_ID = "decision_id"
REASON, ANSWERED = "reason", "answered"
_OURS = (*CLIENT_KEYS, ANSWERED, DECISION_ID)
"""Dynamic metadata that no policy may write: others believe it."""
_OK, _PERMISSION_DENIED = 0, 7
"""google.rpc.Code."""
_STATUSES = frozenset(type_v3.StatusCode.values()) - {0}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``headers``: to the upstream where allowed, else to the client. ``status``: of a denial."""

    allowed: bool
    headers: Headers = ()
    response_headers: Headers = ()
    removed_headers: tuple[str, ...] = ()
    query: Headers = ()
    removed_query: tuple[str, ...] = ()
    body: str | None = None
    status: int = 403
    metadata: Mapping[str, Any] | None = None


def read_result(value: Any) -> Verdict:
    """Raises Undecided: it is neither a boolean nor such an object."""
    if isinstance(value, bool):
        return Verdict(value)
    if not isinstance(value, dict):
        raise Undecided(f"the decision is {_called(value)}, neither a boolean nor an object")
    if not isinstance(value.get("allowed"), bool):
        raise Undecided('the decision has no boolean "allowed"')
    body, metadata = value.get("body"), value.get("dynamic_metadata")
    if body is not None and not isinstance(body, str):
        raise Undecided('"body" is no string')
    if metadata is not None and not isinstance(metadata, dict):
        raise Undecided('"dynamic_metadata" is no object')
    return Verdict(
        value["allowed"],
        headers=_headers(value, "headers"),
        response_headers=_headers(value, "response_headers_to_add"),
        removed_headers=_strings(value, "request_headers_to_remove"),
        query=tuple(_pairs(value.get("query_parameters_to_set", {}), "query_parameters_to_set")),
        removed_query=_strings(value, "query_parameters_to_remove"),
        body=body,
        status=_status(value.get("http_status", 403)),
        metadata=metadata,
    )


def _called(value: Any) -> str:
    return {str: "a string", list: "an array", type(None): "null"}.get(type(value), "a number")


def _status(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in _STATUSES:
        raise Undecided('"http_status" is no status')
    return value


def _strings(value: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = value.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise Undecided(f'"{name}" is no array of strings')
    return tuple(found)


def _headers(value: Mapping[str, Any], name: str) -> Headers:
    """An object, or an array of objects, whose values are strings or arrays of them."""
    found = value.get(name, {})
    return tuple(pair for each in (found if isinstance(found, list) else [found]) for pair in _pairs(each, name))


def _pairs(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        raise Undecided(f'"{name}" is no object')
    for key, written in value.items():
        for each in written if isinstance(written, list) else [written]:
            if not isinstance(each, str):
                raise Undecided(f'"{name}" has a value that is no string')
            yield key, each


def allow(verdicts: Iterable[Verdict], decision_id: str) -> Any:
    """The CheckResponse where all policies allow: what each of them says is done, in order."""
    ok = ext_authz_service_v3.OkHttpResponse()
    metadata: dict[str, Any] = {}
    for verdict in verdicts:
        ok.headers.extend(_options(verdict.headers))
        ok.response_headers_to_add.extend(_options(verdict.response_headers))
        ok.headers_to_remove.extend(verdict.removed_headers)
        ok.query_parameters_to_set.extend(core_v3.QueryParameter(key=key, value=value) for key, value in verdict.query)
        ok.query_parameters_to_remove.extend(verdict.removed_query)
        metadata |= verdict.metadata or {}
    told = _metadata(metadata, {DECISION_ID: decision_id})
    return ext_authz_service_v3.CheckResponse(status=status.Status(code=_OK), ok_response=ok, dynamic_metadata=told)


def deny(verdict: Verdict, reason: str, decision_id: str) -> Any:
    """The CheckResponse where one policy does not. A body of its own stays as it is."""
    ours: dict[str, Any] = {REASON: reason, DECISION_ID: decision_id}
    if verdict.body:
        ours[ANSWERED] = True
    denied = ext_authz_service_v3.DeniedHttpResponse(
        status=type_v3.HttpStatus(code=verdict.status), headers=_options(verdict.headers), body=verdict.body or ""
    )
    return ext_authz_service_v3.CheckResponse(
        status=status.Status(code=_PERMISSION_DENIED),
        denied_response=denied,
        dynamic_metadata=_metadata(verdict.metadata or {}, ours),
    )


def _options(headers: Headers) -> list[Any]:
    return [core_v3.HeaderValueOption(header=core_v3.HeaderValue(key=name, value=value)) for name, value in headers]


def _metadata(policys: Mapping[str, Any], ours: Mapping[str, Any]) -> Any:
    struct = protobuf.Struct()
    struct.update({key: value for key, value in policys.items() if key not in _OURS})
    struct.update(dict(ours))
    return struct
