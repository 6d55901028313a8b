"""The kinds, in the order in which they are applied: what is referred to comes before what refers to it."""

from isthmus.kinds import (
    access_policy,
    authorization_policy,
    client_authentication,
    client_traffic_policy,
    config_map,
    consumer,
    deployment,
    destination_rule,
    federated_trust_domain,
    gateway,
    local_workload,
    namespace,
    peer_authentication,
    rate_limit_policy,
    rego_policy,
    request_authentication,
    secret,
    service,
    service_account,
    service_entry,
    telemetry,
    virtual_service,
    workload_entry,
    workload_group,
    workload_registration,
)
from isthmus.kinds.shape.kind import AnyKind

KINDS: tuple[AnyKind, ...] = (
    config_map.KIND,
    federated_trust_domain.KIND,
    consumer.KIND,
    namespace.KIND,
    service_account.KIND,
    secret.KIND,
    service.KIND,
    service_entry.KIND,
    workload_group.KIND,
    workload_entry.KIND,
    local_workload.KIND,
    workload_registration.KIND,
    deployment.KIND,
    destination_rule.KIND,
    gateway.KIND,
    client_traffic_policy.KIND,
    virtual_service.KIND,
    peer_authentication.KIND,
    request_authentication.KIND,
    client_authentication.KIND,
    rego_policy.KIND,
    authorization_policy.KIND,
    access_policy.KIND,
    rate_limit_policy.KIND,
    telemetry.KIND,
)

LATER_KINDS: dict[str, tuple[str, ...]] = {
    "networking.istio.io": ("EnvoyFilter", "ProxyConfig", "Sidecar"),
    "extensions.istio.io": ("TrafficExtension", "WasmPlugin"),
}
"""Kinds that Istio serves and this version does not act on, by API group."""
