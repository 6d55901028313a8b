"""A small pool of documents that depend on each other, each good in two ways, broken in two, or not there."""

from __future__ import annotations

from io import BytesIO

from hypothesis import strategies as st

from isthmus.config.load import Loaded, load

from .making import entry, gateway, mesh_config, networking, security, service

_LINES = 24
_ABSENT = "# nothing\n"


def _broken(document: str) -> str:
    """With a field that its kind does not have, or a value."""
    if "kind: ConfigMap" in document:
        return document.replace("REGISTRY_ONLY", "SOMETIMES")
    spec = "spec:\n  "
    return (
        document.replace(f"{spec}{{", f"{spec}{{x: 1, ")
        if f"{spec}{{" in document
        else document.replace(spec, f"{spec}x: 1\n  ")
    )


def _no_yaml(document: str) -> str:
    return document + "  oops: [\n"


def _routes(destination: str, prefix: str) -> str:
    spec = f"""\
    hosts: [shop.example.com, orders]
    gateways: [edge, mesh]
    http:
    - match: [{{uri: {{prefix: {prefix}}}}}]
      route: [{{destination: {destination}}}]
    """
    return networking("VirtualService", "shop", spec)


def _policy(action: str, rule: str) -> str:
    return security("AuthorizationPolicy", "policy", f"action: {action}\nrules: [{rule}]")


_GOOD: tuple[tuple[str, str], ...] = (
    (service("orders"), service("orders", "{name: http, port: 8080}, {name: tcp, port: 9090}")),
    (service("users"), service("users", "{name: grpc, port: 8080}")),
    (entry("orders-1", version="v1"), entry("orders-1", version="v2")),
    (entry("users-1"), entry("users-1", app="orders")),
    (gateway(), gateway(hosts="*.example.com", port=8080)),
    (_routes("{host: orders, port: {number: 8080}}", "/"), _routes("{host: orders, subset: v1}", "/a")),
    (
        networking("DestinationRule", "orders", "{host: orders, subsets: [{name: v1, labels: {version: v1}}]}"),
        networking("DestinationRule", "orders", "{host: orders, trafficPolicy: {tls: {mode: DISABLE}}}"),
    ),
    (
        security("PeerAuthentication", "default", "{mtls: {mode: STRICT}}"),
        security("PeerAuthentication", "default", "{mtls: {mode: DISABLE}}"),
    ),
    (
        _policy("ALLOW", "{to: [{operation: {methods: [GET]}}]}"),
        _policy("CUSTOM\nprovider: {name: opa}", "{}"),
    ),
    (
        security("RequestAuthentication", "tokens", "{jwtRules: [{issuer: https://one.example.com}]}"),
        security("RequestAuthentication", "tokens", "{jwtRules: [{issuer: https://two.example.com}]}"),
    ),
    (
        mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"),
        mesh_config("pathNormalization: {normalization: NONE}"),
    ),
    (
        networking(
            "ServiceEntry", "out", "{hosts: [out.example.com], ports: [{number: 80, name: http}], resolution: DNS}"
        ),
        networking(
            "ServiceEntry",
            "out",
            "{hosts: [out.example.com, orders.example.com], ports: [{number: 80, name: http}, {number: 9, name: tcp}], "
            "resolution: STATIC, endpoints: [{address: 192.0.2.1, labels: {security.istio.io/tlsMode: istio}}]}",
        ),
    ),
    (
        networking(
            "VirtualService",
            "orders",
            "{hosts: [orders, '*.example.com'], http: [{route: [{destination: {host: users}}]}]}",
        ),
        networking(
            "VirtualService",
            "orders",
            "{hosts: [out.example.com], http: [{match: [{sourceLabels: {version: v1}}, {sourceNamespace: store}], "
            "route: [{destination: {host: orders}}]}, {redirect: {uri: /}}]}",
        ),
    ),
    (entry("carts-1", "store", version="v1"), entry("carts-1", "store", app="users")),
    (
        security(
            "AuthorizationPolicy",
            "all",
            "{action: DENY, rules: [{to: [{operation: {ports: ['9090']}}]}]}",
            "istio-system",
        ),
        security(
            "AuthorizationPolicy",
            "all",
            "{selector: {matchLabels: {version: v1}}, action: AUDIT, rules: [{}]}",
            "istio-system",
        ),
    ),
    (
        security("PeerAuthentication", "orders", "{selector: {matchLabels: {app: orders}}, mtls: {mode: DISABLE}}"),
        security(
            "PeerAuthentication", "orders", "{selector: {matchLabels: {app: users}}, mtls: {mode: STRICT}}", "store"
        ),
    ),
    (
        gateway("inner", hosts="shop/*", port=80).replace("app: edge", "app: inner"),
        gateway("inner", hosts="users.example.com", port=80),
    ),
)
SLOTS = tuple((_ABSENT, first, second, _broken(first), _no_yaml(first)) for first, second in _GOOD)
STATES = st.tuples(st.booleans(), *(st.integers(0, len(slot) - 1) for slot in SLOTS))
"""Which of its ways each document has now, and whether all stand one line lower."""


def loaded(state: tuple[int, ...]) -> Loaded:
    """Every document begins at a line of its own, whatever the others are."""
    lower, *choices = state
    parts = []
    for slot, choice in zip(SLOTS, choices, strict=True):
        text = slot[choice]
        parts.append(text + "\n" * (_LINES - text.count("\n")))
    text = "# lower\n" * lower + "---\n".join(parts)
    return load(["-"], namespace="shop", stdin=BytesIO(text.encode()))
