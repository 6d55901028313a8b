"""Reasons that are no policy's: requests that are written wrong, and services that cannot be reached.

Source of the details: envoy docs/root/configuration/http/http_conn_man/response_code_details.rst, and the binary.
"""

from __future__ import annotations

from isthmus.model.refusal import Details, DetailsBegin, Group, OwnRoute, Reason, RuleNamed

_REQUEST, _UPSTREAM = Group.REQUEST, Group.UPSTREAM
_RESET = "upstream_reset_before_response_started{"

NO_SERVER = Reason(
    "server-unknown",
    _REQUEST,
    None,
    "No server here has that name.",
    "`sni` of the access log is the TLS server name that was asked for: no server's `hosts` has it.",
    (Details(("filter_chain_not_found",)),),
)
REQUEST_REASONS: tuple[Reason, ...] = (
    NO_SERVER,
    Reason(
        "header-underscore",
        _REQUEST,
        400,
        "A header's name has an underscore.",
        "Programs take `x_user` and `x-user` for the same header, so gateways take only the latter.",
        (Details(("http1.unexpected_underscore", "http2.unexpected_underscore")),),
    ),
    Reason(
        "path-invalid",
        _REQUEST,
        400,
        "The path can be read in several ways.",
        "Gateways refuse `%2F`, `%5C`, `%00`, fragments and paths that leave their root.",
        (
            Details(
                (
                    "path_normalization_failed",
                    "http.invalid_path",
                    "http1.invalid_url",
                    "missing_path_rejected",
                    "absolute_path_rejected",
                )
            ),
        ),
    ),
    Reason(
        "path-ambiguous",
        _REQUEST,
        403,
        "The path is another to programs that know path parameters.",
        "`/..;` is a step up to such programs (Tomcat and its kin), and to a proxy none.",
        (RuleNamed("isthmus-path-dot-parameter"),),
    ),
    Reason(
        "host-invalid",
        _REQUEST,
        400,
        "The request names no host, or one that is none.",
        "A request has one `Host` (HTTP/2: `:authority`), of a host and a port.",
        (Details(("missing_host_header", "http.invalid_authority")),),
    ),
    Reason(
        "host-ambiguous",
        _REQUEST,
        403,
        "The request names several hosts.",
        "It has two `Host` headers, or one with a comma: which of them a program takes, nobody knows.",
        (RuleNamed("isthmus-host-list"),),
    ),
    Reason(
        "headers-too-large",
        _REQUEST,
        431,
        "The headers are too many, or too large.",
        "At most 100 headers and 60 KiB.",
        (
            Details(
                (
                    "http1.headers_too_large",
                    "http1.too_many_headers",
                    "http2.header_list_size_too_large",
                    "http2.too_many_headers",
                    "http2.cookies_total_bytes_too_large",
                )
            ),
        ),
    ),
    Reason(
        "body-too-large",
        _REQUEST,
        413,
        "The body is too large.",
        "A filter that reads whole bodies takes no more: `includeRequestBodyInCheck.maxRequestBytes`, for one.",
        (Details(("request_payload_too_large", "request_payload_exceeded_retry_buffer_limit")),),
    ),
    Reason(
        "framing-invalid",
        _REQUEST,
        400,
        "Where the request ends can be read in several ways.",
        "`Transfer-Encoding` and `Content-Length` contradict one another: request smuggling, or a broken client.",
        (
            Details(
                (
                    "http1.content_length_and_chunked_not_allowed",
                    "http1.content_length_not_allowed",
                    "http1.transfer_encoding_not_allowed",
                    "http1.invalid_transfer_encoding",
                    "http1.body_disallowed",
                )
            ),
        ),
    ),
    Reason(
        "protocol-error",
        _REQUEST,
        400,
        "This is not HTTP as it should be.",
        "`details` of the access log says what is wrong.",
        (Details(("low_version", "upgrade_failed", "http.connect_not_supported")), DetailsBegin(("http1.", "http2."))),
    ),
    Reason(
        "request-timeout",
        _REQUEST,
        408,
        "The request did not come in time.",
        "Headers have ten seconds, and a stream on which nothing moves five minutes.",
        (
            Details(
                ("request_header_timeout", "request_overall_timeout", "stream_idle_timeout", "max_duration_timeout")
            ),
        ),
    ),
    Reason(
        "route-not-found",
        _REQUEST,
        404,
        "There is nothing here by that host and path.",
        "No VirtualService has a route for it: `isthmus config` tells which routes the proxy has.",
        (Details(("route_not_found",)),),
    ),
    Reason(
        "host-not-registered",
        _REQUEST,
        502,
        "This host is no service of the mesh.",
        "`outboundTrafficPolicy` is REGISTRY_ONLY: a ServiceEntry declares the host.",
        (OwnRoute("block_all", 502),),
    ),
)

UPSTREAM_REASONS: tuple[Reason, ...] = (
    Reason(
        "overloaded",
        _UPSTREAM,
        503,
        "The proxy has too much to do.",
        "It is short of memory, or of connections: `overload.` among its metrics.",
        (Details(("overload", "drop_overload")),),
    ),
    Reason(
        "upstream-overflow",
        _UPSTREAM,
        503,
        "Too many requests wait for the service.",
        "A limit of the DestinationRule's `connectionPool` was reached.",
        (
            Details(
                (
                    f"{_RESET}overflow}}",
                    "dynamic_forward_proxy_pending_request_overflow",
                    "dns_cache_pending_requests_overflow",
                )
            ),
        ),
    ),
    Reason(
        "upstream-timeout",
        _UPSTREAM,
        504,
        "The service did not answer in time.",
        "`timeout`, or `retries.perTryTimeout`, of the route.",
        (
            Details(
                (
                    "response_timeout",
                    "upstream_response_timeout",
                    "upstream_per_try_timeout",
                    "upstream_per_try_idle_timeout",
                    "upstream_max_stream_duration_reached",
                )
            ),
        ),
    ),
    Reason(
        "upstream-unavailable",
        _UPSTREAM,
        503,
        "The service cannot be reached.",
        "`upstream_failure` and `response_flags` of the access log say why.",
        (
            Details(("no_healthy_upstream", "cluster_not_found", "route_configuration_not_found", "maintenance_mode")),
            DetailsBegin((_RESET, "dns_resolution_failure{")),
        ),
    ),
    Reason(
        "upstream-broken",
        _UPSTREAM,
        None,
        "The service broke its answer off, or its answer was no HTTP.",
        "`details` of the access log says how. One that had begun with a 2xx has no reason, only the details.",
        (
            Details(("response_payload_too_large", "filter_removed_required_headers")),
            DetailsBegin(("upstream_reset_after_response_started{",)),
        ),
    ),
)
