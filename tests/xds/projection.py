"""What a golden file shows of a static configuration: all that manifests decide, nothing that is the same everywhere.

- Left out by name (:data:`LEFT_OUT`): what another test looks at, named there.
- Left out by value (:data:`CONSTANT`): a field that has one of the values listed. Any other value is shown.
- What one of our own builders made is shown as the arguments it was given (``mutual_tls_client: {identities, ...}``),
  but only where building it anew from them gives the very same; filters and clusters that never differ, as
  ``constant``, again only while they do not; Istio's default retries as ``usual``.
- The listener for requests in tunnels, which has the routes of the outbound proxy, is shown by its filters alone.
- Lists of named things become mappings by name, in their order; messages' fields are sorted. An Any loses its type
  where a name tells it. Addresses read ``127.0.0.1:80``, secrets of the agent ``sds: NAME``. A chain that does what
  one before it does says so (``as: NAME``).
"""

from __future__ import annotations

from typing import Any

import yaml

from isthmus.envoy_api import to_json
from isthmus.envoy_api.packages import cluster_v3, http_connection_manager_v3, listener_v3
from isthmus.filters.allow_policies import AllowPolicies
from isthmus.filters.cors import Cors
from isthmus.filters.dynamic_forward_proxy import DynamicForwardProxy
from isthmus.filters.fault import Fault
from isthmus.filters.jwt_authn import JwtAuthn, JwtProviderConfig
from isthmus.filters.proxy_authorization import ProxyAuthorization
from isthmus.filters.rbac import Deny
from isthmus.model.federation import TrustDomains
from isthmus.model.policy import JwtRule
from isthmus.xds import tls
from isthmus.xds.cluster import build_black_hole, build_passthrough
from isthmus.xds.endpoint import ISTIO, TLS_MODE, TRANSPORT_MATCH
from isthmus.xds.listener import peer_filters
from isthmus.xds.name import CONNECT
from isthmus.xds.outbound import basic_authorization
from isthmus.xds.own_rule import own_rules
from isthmus.xds.secret import SDS_CLUSTER, sds_secret
from tests.filters.chain import build_chain

from .making import origin

LEFT_OUT = {
    "@type": "the name beside it tells",
    "access_log": "test_observe.py",
    "access_log_options": "test_listener.py",
    "metadata": "test_metadata.py, but for an endpoint's mutual TLS",
    "local_reply_config": "tests/filters/test_proxy_authorization.py",
    "stat_prefix": "names of statistics",
    "rules_stat_prefix": "names of statistics",
    "shadow_rules_stat_prefix": "names of statistics",
    "cluster_name": "the cluster's own",
    "upgrade_configs": "test_hcm.py, test_connect.py",
    "listener_filters_timeout": "test_connect.py",
    **dict.fromkeys(
        (
            *("codec_type", "common_http_protocol_options", "http2_protocol_options", "stream_idle_timeout"),
            *("server_name", "server_header_transformation", "use_remote_address", "generate_request_id"),
            *("preserve_external_request_id", "forward_client_cert_details", "set_current_client_cert_details"),
            *("normalize_path", "merge_slashes", "path_with_escaped_slashes_action", "request_headers_timeout"),
            "strip_trailing_host_dot",
        ),
        "test_hcm.py",
    ),
    **dict.fromkeys(("circuit_breakers", "common_lb_config", "lb_policy"), "test_cluster.py"),
}
"""Fields that are never shown, and where to look for them instead."""

CONSTANT: dict[str, tuple[Any, ...]] = {
    "transport_socket_connect_timeout": ("10s",),
    "enable_reuse_port": (False,),
    "per_connection_buffer_limit_bytes": (32768,),
    "listener_filters": ({"envoy.filters.listener.tls_inspector": {}},),
    "bypass_cors_preflight": (True,),
    "strip_failure_response": (True,),
    "ignore_port_in_host_matching": (True,),
    "validate_clusters": (False,),
    "max_direct_response_body_size_bytes": (1024 * 1024,),
    "case_sensitive": (True,),
    "keep_empty_value": (True,),
    "host_selection_retry_max_attempts": ("5",),
    "retry_host_predicate": ({"envoy.retry_host_predicates.previous_hosts": {}},),
    "append_action": ("OVERWRITE_IF_EXISTS_OR_ADD",),
    "timeout": ("0s",),
    "connect_timeout": ("10s",),
    "load_balancing_weight": (1,),
    "tls_params": ({"tls_maximum_protocol_version": "TLSv1_3", "tls_minimum_protocol_version": "TLSv1_2"},),
    "request_headers_to_remove": (["proxy-authorization", "proxy-connection"],),
}
"""Fields that are not shown while they have one of these values."""

USUAL = {"retry_policy": {"num_retries": 2, "retry_on": "connect-failure,refused-stream,unavailable,cancelled"}}
"""Fields that are shown as ``usual`` while they have this value: that they are there at all matters."""

_NO_CREDENTIAL = "not-a-credential"
_SDS_CONFIG = to_json(sds_secret("any"))["sds_config"]
_PLAINTEXT = {
    "name": "envoy.transport_sockets.raw_buffer",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"},
}
_HTTP = {
    "1.1": {"http_protocol_options": {}},
    "2": {"http2_protocol_options": {"max_concurrent_streams": 100}},
}
_IS_ISTIO = {TLS_MODE: ISTIO}


def projected(static: Any) -> str:
    """A Bootstrap as YAML."""
    resources = to_json(static)["static_resources"]
    wholes = _wholes()
    shown = {
        "listeners": {one["name"]: _listener(one, wholes) for one in resources.get("listeners", ())},
        "clusters": {
            one["name"]: "constant" if one in wholes else _cluster(one)
            for one in resources["clusters"]
            if one["name"] not in (SDS_CLUSTER, CONNECT)
        },
    }
    return yaml.dump(shown, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)


class _Dumper(yaml.SafeDumper):
    """Without anchors: a list that appears twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _http_filters(configs: dict[type, Any]) -> list[Any]:
    http = http_connection_manager_v3.HttpConnectionManager(http_filters=build_chain(configs))
    filters: list[Any] = to_json(http)["http_filters"]
    return filters


def _wholes() -> list[Any]:
    """Filters and clusters that are the same everywhere."""
    guard = listener_v3.Listener(filter_chains=[listener_v3.FilterChain(filters=peer_filters())])
    usual = {
        ProxyAuthorization: ProxyAuthorization(basic_authorization(_NO_CREDENTIAL)),
        Cors: Cors(),
        Fault: Fault(),
        DynamicForwardProxy: DynamicForwardProxy(),
    }
    return [
        *to_json(guard)["filter_chains"][0]["filters"],
        *_http_filters(usual),
        to_json(build_black_hole()),
        to_json(build_passthrough()),
    ]


def _listener(listener: Any, wholes: list[Any]) -> Any:
    if listener["name"] == CONNECT:
        (chain,) = listener["filter_chains"]
        (hcm,) = (one["typed_config"] for one in chain["filters"])
        return {"requests in tunnels": [one["name"].rpartition(".")[2] for one in hcm["http_filters"]]}
    shown: dict[str, Any] = {}
    for chain in listener["filter_chains"]:
        for filter_ in chain["filters"]:
            config = filter_.get("typed_config", {})
            if "http_filters" in config:
                config["http_filters"] = [_filter(one, wholes) for one in config["http_filters"]]
        filters = [_filter(one, wholes) for one in chain["filters"]]
        own = [{one["name"]: _reduced(one["typed_config"])} for one in filters if one["typed_config"] != "constant"]
        same = next((name for name, one in shown.items() if one.get("filters") == own), None)
        shown[chain["name"]] = {
            **_reduced({name: value for name, value in chain.items() if name not in ("name", "filters")}),
            **({"peer": "kept and guarded"} if len(own) < len(filters) else {}),
            **({"as": same} if same else {"filters": own}),
        }
    rest = _reduced({name: value for name, value in listener.items() if name not in ("name", "filter_chains")})
    return {**rest, "filter_chains": shown}


def _own_rules() -> dict[str, Any]:
    """Of each DENY rule that no manifest asks for, its RBAC policy."""
    tokens = JwtAuthn((JwtProviderConfig(JwtRule("https://auth.example.com", origin()), None),))
    (deny,) = _http_filters({Deny: Deny(tuple(own_rules(tokens, edge=True)))})
    policies: dict[str, Any] = deny["typed_config"]["rules"]["policies"]
    return policies


def _filter(one: Any, wholes: list[Any]) -> Any:
    if one in wholes:
        return {"name": one["name"], "typed_config": "constant"}
    rules = one.get("typed_config", {}).get("rules")
    if isinstance(rules, dict) and "policies" in rules:
        own = _own_rules()
        same = (name for name, policy in rules["policies"].items() if own.get(name) == policy)
        rules["policies"] |= dict.fromkeys(tuple(same), "constant")
    metadata = one.get("typed_config", {}).get("metadata")
    if metadata and "allow_policies" in metadata[0].get("value", {}):
        names, peers = metadata[0]["value"]["allow_policies"], metadata[0]["value"].get("allowed_peers")
        (again,) = _http_filters({AllowPolicies: AllowPolicies(tuple(names), peers)})
        if again["typed_config"] == one["typed_config"]:
            return {"name": one["name"], "typed_config": names if peers is None else {"rules": names, "peers": peers}}
    return one


def _cluster(cluster: Any) -> Any:
    shown = {name: value for name, value in cluster.items() if name != "name"}
    options = shown.pop("typed_extension_protocol_options", {})
    for config in options.values():
        explicit = config.get("explicit_http_config", "as the caller")
        shown["http"] = next((name for name, one in _HTTP.items() if one == explicit), explicit)
        more = {name: value for name, value in config.items() if name not in ("@type", "explicit_http_config")}
        shown |= {"http_options": more} if more else {}
    localities = shown.pop("load_assignment", {}).get("endpoints", [])
    endpoints = [_endpoint(one) for locality in localities for one in locality["lb_endpoints"]]
    matches = shown.pop("transport_socket_matches", None)
    shown = _reduced(shown)
    if matches is not None:
        secured, plain = matches
        assert secured["match"] == _IS_ISTIO
        assert "match" not in plain or not plain["match"]
        shown["istio_endpoints"] = _socket(secured["transport_socket"])
        shown["other_endpoints"] = _socket(plain["transport_socket"])
    return {**shown, "endpoints": endpoints}


def _endpoint(one: Any) -> Any:
    address = _reduced(one["endpoint"]["address"])
    metadata = one.get("metadata", {}).get("filter_metadata", {}).get(TRANSPORT_MATCH)
    weight = one["load_balancing_weight"]
    assert metadata in (None, _IS_ISTIO)
    assert one["endpoint"].keys() == {"address"}
    marks = (["istio"] if metadata else []) + ([f"weight {weight}"] if weight != 1 else [])
    return " ".join((address, *marks))


def _socket(socket: Any) -> Any:
    if socket == _PLAINTEXT:
        return "plaintext"
    context = socket["typed_config"]
    common = context["common_tls_context"]
    alpn, sni = common.get("alpn_protocols", []), context.get("sni", "")
    validation = common.get("combined_validation_context", {}).get("default_validation_context", {})
    sans = [one["matcher"] for one in validation.get("match_typed_subject_alt_names", ())]
    identities = [one.get("exact", "") for one in sans]
    if (
        socket
        == to_json(cluster_v3.Cluster(transport_socket=tls.mesh_client(identities, sni, alpn)))["transport_socket"]
    ):
        return {"mutual_tls_client": {"identities": identities, "sni": sni, "alpn": alpn}}
    domain = sans[0].get("prefix", "").removeprefix("spiffe://").removesuffix("/ns/") if sans else ""
    if (
        socket
        == to_json(cluster_v3.Cluster(transport_socket=tls.mesh_server(TrustDomains((domain,)), alpn)))[
            "transport_socket"
        ]
    ):
        return {"mutual_tls_server": {"trust_domain": domain, "alpn": alpn}}
    return _reduced(context)


def _reduced(value: Any) -> Any:
    if isinstance(value, list):
        items = [_reduced(item) for item in value]
        names = [item.get("name") if isinstance(item, dict) else None for item in items]
        if items and all(names) and len(set(names)) == len(names):
            return {name: _without_name(item) for name, item in zip(names, items, strict=True)}
        return items
    if not isinstance(value, dict):
        return value
    if value.get("sds_config") == _SDS_CONFIG:
        return {"sds": value["name"]}
    if value.get("match") == {"connect_matcher": {}}:
        refused = value.get("direct_response", {}).get("status")
        return {"name": "CONNECT", "typed_config": refused or value["route"]["cluster"]}
    if value.keys() == {"inline_string"}:
        return value["inline_string"].rstrip("\n")
    if value.keys() == {"envoy_internal_address"}:
        return "within: {server_listener_name}".format(**value["envoy_internal_address"])
    if value.keys() == {"socket_address"}:
        return "{address}:{port_value}".format(**value["socket_address"])
    if "transport_socket" in value:
        rest = {name: field for name, field in value.items() if name != "transport_socket"}
        return {**_reduced(rest), "transport_socket": _socket(value["transport_socket"])}
    if "rules" in value and value.get("shadow_rules") == value["rules"]:
        value = {**value, "shadow_rules": "the same"}
    fields = {name: _reduced(field) for name, field in sorted(value.items()) if name not in LEFT_OUT}
    return {
        name: "usual" if field == USUAL.get(name) else field
        for name, field in fields.items()
        if field not in CONSTANT.get(name, ())
    }


def _without_name(fields: Any) -> Any:
    rest = {name: value for name, value in fields.items() if name != "name"}
    return rest["typed_config"] if rest.keys() == {"typed_config"} else rest
