"""Every metric that is offered, with its labels: what builders, readers and the reference page share.

Names, types and labels are Istio's (istio.io, "Istio Standard Metrics"; ``pilot/pkg/xds/monitoring.go``), so that
people's dashboards and alerts find them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class MetricKind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """``selector`` is its name in ``Telemetry.spec.metrics[].overrides[].match.metric``, for those of proxies."""

    name: str
    kind: MetricKind
    about: str
    labels: tuple[str, ...] = ()
    selector: str = ""


PEERS: Mapping[str, str] = {
    "reporter": "`source`: told by the caller's side (a gateway, or a program's calls); `destination`: by the called",
    "source_workload": "the calling workload, or gateway; `unknown` from outside, or where several share the identity",
    "source_workload_namespace": "its namespace, as its certificate proves it",
    "source_principal": "its SPIFFE ID; `unknown` over plaintext",
    "source_app": "its label `app`, where all workloads of the identity have the same",
    "source_version": "its label `version`, likewise",
    "destination_workload": "the called workload; `unknown` where nobody was reached, or outside the mesh",
    "destination_workload_namespace": "its namespace",
    "destination_principal": "its SPIFFE ID; `unknown` over plaintext",
    "destination_app": "its label `app`",
    "destination_version": "its label `version`",
    "destination_service": "the host of the service that was called, as declared: never what a client wrote",
    "destination_service_name": "its short name; `PassthroughCluster`: a host that is no service",
    "destination_service_namespace": "its namespace",
    "request_protocol": "`http`, `grpc` or `tcp`, as the service's port is declared",
    "response_flags": "Envoy's flags, `-` for none",
    "connection_security_policy": "`mutual_tls` or `none` at the destination, `unknown` at the source",
}
"""Labels of every metric of a proxy, by name."""
LABELS: Mapping[str, str] = {**PEERS, "response_code": "of HTTP"}

_TCP = tuple(PEERS)
_HTTP = (*_TCP, "response_code")

REQUESTS = Metric("istio_requests_total", MetricKind.COUNTER, "Requests.", _HTTP, "REQUEST_COUNT")
REQUEST_DURATION = Metric(
    "istio_request_duration_milliseconds",
    MetricKind.HISTOGRAM,
    "From the request's first byte to the response's last.",
    _HTTP,
    "REQUEST_DURATION",
)
REQUEST_BYTES = Metric("istio_request_bytes", MetricKind.HISTOGRAM, "Bodies of requests.", _HTTP, "REQUEST_SIZE")
RESPONSE_BYTES = Metric("istio_response_bytes", MetricKind.HISTOGRAM, "Bodies of responses.", _HTTP, "RESPONSE_SIZE")
TCP_OPENED = Metric(
    "istio_tcp_connections_opened_total",
    MetricKind.COUNTER,
    "TCP connections that reached their destination.",
    _TCP,
    "TCP_OPENED_CONNECTIONS",
)
TCP_CLOSED = Metric(
    "istio_tcp_connections_closed_total",
    MetricKind.COUNTER,
    "TCP connections that ended, those that reached nobody among them (see `response_flags`).",
    _TCP,
    "TCP_CLOSED_CONNECTIONS",
)
TCP_SENT = Metric(
    "istio_tcp_sent_bytes_total",
    MetricKind.COUNTER,
    "Bytes to the caller; counted when the connection ends.",
    _TCP,
    "TCP_SENT_BYTES",
)
TCP_RECEIVED = Metric(
    "istio_tcp_received_bytes_total",
    MetricKind.COUNTER,
    "Bytes from the caller; counted when the connection ends.",
    _TCP,
    "TCP_RECEIVED_BYTES",
)
DENIED = Metric(
    "isthmus_denied_requests_total",
    MetricKind.COUNTER,
    "Requests that were refused, by the reason's code, at gateways and before programs.",
    (
        "reporter",
        "reason",
        "source_principal",
        "source_workload",
        "source_workload_namespace",
        "destination_workload",
        "destination_workload_namespace",
        "destination_service",
        "destination_service_namespace",
    ),
)
HTTP_METRICS = (REQUESTS, REQUEST_DURATION, REQUEST_BYTES, RESPONSE_BYTES)
TCP_METRICS = (TCP_OPENED, TCP_CLOSED, TCP_SENT, TCP_RECEIVED)
PROXY_METRICS = (*HTTP_METRICS, *TCP_METRICS)

HANDSHAKE_FAILURES = Metric(
    "isthmus_tls_handshake_failures_total",
    MetricKind.COUNTER,
    "TLS handshakes that failed, by listener and reason code.",
    ("listener", "reason"),
)
HANDSHAKE_DURATION = Metric(
    "isthmus_tls_handshake_duration_milliseconds",
    MetricKind.HISTOGRAM,
    "From a connection's beginning to the end of its TLS handshake; counted when the connection ends.",
    ("listener",),
)
SHUT_OUT_CONNECTIONS = Metric(
    "isthmus_tls_shut_out_connections_total",
    MetricKind.COUNTER,
    "Connections refused because their address is shut out for handshakes that failed.",
    ("listener",),
)
HANDSHAKE_METRICS = (HANDSHAKE_FAILURES, HANDSHAKE_DURATION, SHUT_OUT_CONNECTIONS)
"""Of every proxy: nobody chooses their labels, no Telemetry changes them."""

ENVOY_STATS: Mapping[str, str] = {
    "istio_": "the metrics above",
    "isthmus_": "the metrics of refused requests and of TLS handshakes; what each proxy counts for limits, by filter",
    "server.": "the process: memory, uptime, connections, limits of metrics that were reached",
    "listener_manager.": "listeners taken and refused",
    "cluster_manager.": "clusters taken and refused",
    "control_plane.": "the stream to the control plane",
    "overload.": "the overload manager",
    "ext_authz.": "answers about clients' certificates: `client_ocsp` with `ok`, `denied`, `error`",
    "tracing.": "spans that were exported, and that were dropped",
}
"""By the beginning of its name: what an Envoy keeps of its own statistics."""
ENVOY_STAT_ENDINGS: Mapping[str, str] = {
    "downstream_cx_active": "connections, now",
    "downstream_cx_total": "connections, ever",
    "downstream_rq_active": "requests, now",
    "downstream_rq_total": "requests, ever",
    "upstream_cx_active": "connections to a service, now",
    "upstream_cx_total": "connections to a service, ever",
    "upstream_cx_connect_fail": "connections that failed",
    "upstream_cx_overflow": "connections that a breaker refused",
    "upstream_rq_active": "requests to a service, now",
    "upstream_rq_total": "requests to a service, ever",
    "upstream_rq_pending_active": "requests that wait for a connection",
    "upstream_rq_pending_overflow": "requests that a breaker refused",
    "upstream_rq_retry": "attempts after the first",
    "upstream_rq_timeout": "requests that ran into their timeout",
    "membership_healthy": "endpoints that take requests",
    "membership_total": "endpoints",
    "ssl.handshake": "TLS handshakes",
    "ssl.connection_error": "TLS handshakes that failed",
    "ssl.fail_verify_error": "peers whose certificate was refused",
    "ssl.fail_verify_no_cert": "peers without a certificate",
    "ssl.fail_verify_san": "peers with another identity than asked for",
    "context_secrets_not_ready": "connections refused because a certificate is not there yet",
    ".allowed": "requests that access control, or a verified token, let on",
    ".denied": "requests that it refused",
    ".shadow_allowed": "requests that a policy on trial would have let on",
    ".shadow_denied": "requests that a policy on trial would have refused",
    ".jwt_authn.jwt_cache_hit": "tokens that were known already",
}
"""By the end of its name."""
ENVOY_STAT_PARTS: Mapping[str, str] = {
    ".outlier_detection.": "ejected endpoints",
    ".circuit_breakers.": "open breakers",
    ".ext_authz.": "answers of external authorisation",
}
"""By a part of its name."""


_TYPE = ("type",)
CONTROL_PLANE_METRICS = (
    Metric("pilot_xds", MetricKind.GAUGE, "Proxies with an open stream."),
    Metric(
        "pilot_xds_pushes", MetricKind.COUNTER, "Responses sent to proxies; `type`: cds, lds, rds, eds, ecds.", _TYPE
    ),
    Metric("pilot_total_xds_rejects", MetricKind.COUNTER, "Responses that a proxy refused.", _TYPE),
    *(
        Metric(f"pilot_xds_{kind}_reject", MetricKind.GAUGE, f"{what} that a proxy refuses, now.", ("node",))
        for kind, what in (("cds", "Clusters"), ("lds", "Listeners"), ("rds", "Routes"), ("eds", "Endpoints"))
    ),
    Metric(
        "pilot_proxy_convergence_time",
        MetricKind.HISTOGRAM,
        "Seconds from a proxy's new configuration to its confirmation of all of it.",
    ),
    Metric("pilot_debounce_time", MetricKind.HISTOGRAM, "Seconds from the first of some changes to their compilation."),
    Metric("pilot_pushcontext_init_seconds", MetricKind.HISTOGRAM, "Seconds to compile and translate a change."),
    Metric("pilot_services", MetricKind.GAUGE, "Services."),
    Metric("pilot_virt_services", MetricKind.GAUGE, "VirtualServices in force."),
    Metric("pilot_jwks_resolver_network_fetch_success_total", MetricKind.COUNTER, "Issuers' keys fetched."),
    Metric("pilot_jwks_resolver_network_fetch_fail_total", MetricKind.COUNTER, "Issuers' keys that did not come."),
    Metric("citadel_server_csr_count", MetricKind.COUNTER, "Requests for certificates."),
    Metric("citadel_server_success_cert_issuance_count", MetricKind.COUNTER, "Certificates issued."),
    Metric(
        "citadel_server_authentication_failure_count", MetricKind.COUNTER, "Requests by nobody, or by the wrong one."
    ),
    Metric("citadel_server_csr_sign_err_count", MetricKind.COUNTER, "Requests that could not be signed."),
    Metric(
        "citadel_server_root_cert_expiry_timestamp",
        MetricKind.GAUGE,
        "When the first of the trusted roots ends, in Unix seconds.",
    ),
    Metric(
        "isthmus_federation_fetch_total",
        MetricKind.COUNTER,
        "Fetches of other trust domains' bundles; `result`: success, failure.",
        ("trust_domain", "result"),
    ),
    Metric(
        "isthmus_federation_bundle_timestamp_seconds",
        MetricKind.GAUGE,
        "When a trust domain's endpoint last gave its bundle, in Unix seconds.",
        ("trust_domain",),
    ),
    Metric(
        "isthmus_federation_overdue",
        MetricKind.GAUGE,
        "1: a trust domain's bundle could not be refreshed for three of its refreshes.",
        ("trust_domain",),
    ),
    Metric(
        "isthmus_rego_bundle_fetches_total",
        MetricKind.COUNTER,
        "Looks for bundles of RegoPolicies; `result`: success, unchanged, refused, failure.",
        ("policy", "result"),
    ),
    Metric(
        "isthmus_rego_bundle_active",
        MetricKind.GAUGE,
        "1: a bundle decides for the RegoPolicy; 0: there is none yet, so its requests are refused.",
        ("policy",),
    ),
    Metric(
        "isthmus_rego_bundle_failing",
        MetricKind.GAUGE,
        "1: the latest look for the RegoPolicy's bundle brought nothing that could be taken.",
        ("policy",),
    ),
    Metric(
        "isthmus_crl_fetches_total",
        MetricKind.COUNTER,
        "Fetches of lists of revoked client certificates; `result`: success, failure.",
        ("result",),
    ),
    Metric(
        "isthmus_crl_next_update_timestamp_seconds",
        MetricKind.GAUGE,
        "When a list of revoked client certificates ends, in Unix seconds; 0: there is none.",
        ("url",),
    ),
    Metric("isthmus_crl_revoked", MetricKind.GAUGE, "Certificates on a list.", ("url",)),
    Metric(
        "isthmus_ocsp_fetches_total",
        MetricKind.COUNTER,
        "Answers fetched to be stapled to gateways' certificates; `result`: success, failure.",
        ("result",),
    ),
    Metric(
        "isthmus_ocsp_staple_next_update_timestamp_seconds",
        MetricKind.GAUGE,
        "When the answer that is stapled to a gateway's certificate ends, in Unix seconds; 0: there is none.",
        ("secret",),
    ),
    Metric(
        "isthmus_node_requests_refused_total",
        MetricKind.COUNTER,
        "What other machines asked too fast for; `kind`: certificate, token, message.",
        ("kind",),
    ),
    Metric("isthmus_nodes", MetricKind.GAUGE, "Other machines; `state`: connected, away, evicted.", ("state",)),
    Metric(
        "isthmus_drift",
        MetricKind.GAUGE,
        "What runs otherwise than declared (`isthmus drift --live` names it).",
        ("proxy", "kind"),
    ),
)
CONVERGENCE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0)
"""Istio's own begin at 0.1 s; those are among them."""
