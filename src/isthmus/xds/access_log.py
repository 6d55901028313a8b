"""JSON access logs: route, identities, verdict and the policy that decided, one line a request at every proxy.

The path is logged without its query, which may carry a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import (
    accesslog_v3,
    cel_access_log_filter_v3,
    core_v3,
    data_accesslog_v3,
    file_access_log_v3,
    protobuf,
)
from isthmus.filters.access import log_fields as access_log_fields
from isthmus.filters.allow_policies import LOG_FIELD, AllowPolicies, listed
from isthmus.filters.peer import HANDSHAKE_STATE, PEER_STATE
from isthmus.filters.rbac import tcp_verdict_log_fields, verdict_log_fields
from isthmus.model.proxy import Proxy
from isthmus.model.reason_request import NO_SERVER
from isthmus.model.telemetry import STANDARD_OUTPUT, FileLog
from isthmus.xds.outcome import went_otherwise, went_well
from isthmus.xds.reason import reason_of_connection, reason_of_request, reasons_at

_CONNECTION = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%fZ)%",
    "duration_ms": "%DURATION%",
    "response_flags": "%RESPONSE_FLAGS%",
    "peer": f"%FILTER_STATE({PEER_STATE}:PLAIN)%",
    "peer_address": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "sni": "%REQUESTED_SERVER_NAME%",
    "tls_version": "%DOWNSTREAM_TLS_VERSION%",
    "handshake_ms": f"%FILTER_STATE({HANDSHAKE_STATE}:PLAIN)%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_peer": "%UPSTREAM_PEER_URI_SAN%",
    "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "connection_details": "%CONNECTION_TERMINATION_DETAILS%",
}
_REQUEST = {
    **_CONNECTION,
    "method": "%REQ(:METHOD)%",
    "authority": "%REQ(:AUTHORITY)%",
    "path": "%PATH(NQ:ORIG_OR_PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "route": "%ROUTE_NAME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "trace_parent": "%REQ(TRACEPARENT)%",
    "trace_id": "%TRACE_ID%",
    "client_address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "issuer": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:iss)%",
    "subject": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:sub)%",
    "token_failure": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:jwt_failure:message)%",
}


def build_http_logs(proxy: Proxy, hop: str, custom: Mapping[str, str] | None = None) -> tuple[Any, Any]:
    """One JSON line a request, on Envoy's standard output. ``custom``: the fields that tell CUSTOM policies.

    Two loggers, of which each request has one: what went well needs no reason, and CEL of any size costs its 8 µs.
    """
    verdict = {**verdict_log_fields(), **(custom or {}), **access_log_fields(), "allow_policies": LOG_FIELD}
    fields = {**_hop(proxy, hop), **_REQUEST, "reason": None, **verdict}
    well = _file_log(fields)
    well.filter.CopyFrom(went_well())
    otherwise = _file_log({**fields, "reason": f"%TYPED_CEL({reason_of_request(reasons_at(hop))})%"})
    otherwise.filter.CopyFrom(went_otherwise())
    return well, otherwise


def build_tcp_log(proxy: Proxy, hop: str, allowing: AllowPolicies) -> Any:
    """One JSON line a connection. ``allowing``: the chain's ALLOW rules, for a connection that none took."""
    reason = f"%TYPED_CEL({reason_of_connection(allowing.peers)})%"
    verdict = {"reason": reason, **tcp_verdict_log_fields(), "allow_policies": listed(allowing.names)}
    return _file_log({**_hop(proxy, hop), **_CONNECTION, **verdict})


def build_unmatched_log(proxy: Proxy, hop: str) -> Any:
    """One JSON line for a connection that no chain of its listener takes; ``details``: ``filter_chain_not_found``."""
    told = {"details": "%RESPONSE_CODE_DETAILS%", "reason": NO_SERVER.code}
    log = _file_log({**_hop(proxy, hop), **_CONNECTION, **told})
    # Connections that a chain takes are logged there.
    log.filter.response_flag_filter.flags.append("NR")
    return log


def build_revoked_log(proxy: Proxy, hop: str) -> Any:
    """One JSON line for a connection that is closed for its client's certificate, with the ``reason`` code."""
    reason = "%DYNAMIC_METADATA(envoy.filters.network.ext_authz:reason)%"
    log = _file_log({**_hop(proxy, hop), **_CONNECTION, "reason": reason})
    log.filter.response_flag_filter.flags.append("UAEX")
    return log


def _hop(proxy: Proxy, hop: str) -> Mapping[str, object]:
    return {"proxy": proxy.id, "hop": hop, "self": proxy.identity.uri}


def _file_log(fields: Mapping[str, object]) -> Any:
    layout = protobuf.Struct()
    layout.update(fields)
    config = file_access_log_v3.FileAccessLog(
        path=STANDARD_OUTPUT, log_format=core_v3.SubstitutionFormatString(json_format=layout)
    )
    return accesslog_v3.AccessLog(name="envoy.access_loggers.file", typed_config=any_of(config))


_ISTIO_TEXT = (
    '[%START_TIME%] "%REQ(:METHOD)% %PATH(NQ:ORIG_OR_PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% "
    "%ROUTE_NAME%\n"
)
"""Istio's default text (pilot/pkg/model/telemetry_logging.go), without the query."""


def build_file_log(log: FileLog) -> Any:
    """An access log that the manifests ask for."""
    layout = core_v3.SubstitutionFormatString(omit_empty_values=log.omit_empty)
    if log.labels:
        layout.json_format.update(dict(log.labels))
    else:
        text = log.text or _ISTIO_TEXT
        layout.text_format_source.inline_string = text if text.endswith("\n") else f"{text}\n"
    config = file_access_log_v3.FileAccessLog(path=log.path, log_format=layout)
    return accesslog_v3.AccessLog(name="envoy.access_loggers.file", typed_config=any_of(config))


def filtered(log: Any, expression: str | None) -> Any:
    """``log`` for what the CEL ``expression`` is true of; for everything without one."""
    if expression is not None:
        config = cel_access_log_filter_v3.ExpressionFilter(expression=expression)
        extension = accesslog_v3.ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel", typed_config=any_of(config)
        )
        _also(log, accesslog_v3.AccessLogFilter(extension_filter=extension))
    return log


def _also(log: Any, wanted: Any) -> None:
    """``log`` only of what ``wanted`` takes, too."""
    if log.HasField("filter"):
        both = accesslog_v3.AndFilter(filters=[log.filter, wanted])
        wanted = accesslog_v3.AccessLogFilter(and_filter=both)
    log.filter.CopyFrom(wanted)


def once_a_connection(log: Any) -> Any:
    """``log`` at the end of a connection only: metrics have the TCP proxy tell of its beginning too."""
    at_end = accesslog_v3.AccessLogFilter(
        log_type_filter=accesslog_v3.LogTypeFilter(types=[data_accesslog_v3.AccessLogType.Value("TcpConnectionEnd")])
    )
    _also(log, at_end)
    return log
