"""JSON access logs: route, identities, verdict and the policy that decided, one line a request at every proxy.

The path is logged without its query, which may carry a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import accesslog_v3, core_v3, file_access_log_v3, protobuf
from isthmus.filters.allow_policies import LOG_FIELD
from isthmus.filters.peer import PEER_STATE
from isthmus.filters.rbac import tcp_verdict_log_fields, verdict_log_fields
from isthmus.model.proxy import Proxy

_CONNECTION = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%fZ)%",
    "duration_ms": "%DURATION%",
    "response_flags": "%RESPONSE_FLAGS%",
    "peer": f"%FILTER_STATE({PEER_STATE}:PLAIN)%",
    "peer_address": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "sni": "%REQUESTED_SERVER_NAME%",
    "tls_version": "%DOWNSTREAM_TLS_VERSION%",
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
    "client_address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "issuer": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:iss)%",
    "subject": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:sub)%",
    "token_failure": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:jwt_failure:message)%",
}


def build_http_log(proxy: Proxy, hop: str, custom: Mapping[str, str] | None = None) -> Any:
    """One JSON line a request, on Envoy's standard output. ``custom``: the fields that tell CUSTOM policies."""
    verdict = {**verdict_log_fields(), **(custom or {}), "allow_policies": LOG_FIELD}
    return _file_log({**_hop(proxy, hop), **_REQUEST, **verdict})


def build_tcp_log(proxy: Proxy, hop: str, allow_policies: Sequence[str]) -> Any:
    """One JSON line a connection. ``allow_policies``: the chain's ALLOW rules, for a connection that none took."""
    verdict = tcp_verdict_log_fields()
    return _file_log({**_hop(proxy, hop), **_CONNECTION, **verdict, "allow_policies": list(allow_policies)})


def _hop(proxy: Proxy, hop: str) -> Mapping[str, object]:
    return {"proxy": proxy.id, "hop": hop, "self": proxy.identity.uri}


def _file_log(fields: Mapping[str, object]) -> Any:
    layout = protobuf.Struct()
    layout.update(fields)
    config = file_access_log_v3.FileAccessLog(
        path="/dev/stdout", log_format=core_v3.SubstitutionFormatString(json_format=layout)
    )
    return accesslog_v3.AccessLog(name="envoy.access_loggers.file", typed_config=any_of(config))
