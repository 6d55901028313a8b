from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from isthmus.control.offline import offline_world
from isthmus.envoy_api import unpack
from isthmus.filters.allow_policies import AllowPolicies
from isthmus.filters.ext_authz import Custom
from isthmus.filters.jwt_authn import JwtAuthn
from isthmus.filters.rbac import Allow, Audit, Deny
from isthmus.filters.router import Router
from isthmus.model.match import Exact, Regex
from isthmus.model.predicate import TRUE, Destination, Host, Not, Peer
from isthmus.model.world import IssuerKeys
from isthmus.xds.context import Context
from isthmus.xds.policy import edge_headers, http_policy, output_headers, tcp_filters
from isthmus.xds.snapshot import EXTENSION
from isthmus.xds.token_rule import jwt_rules

from .making import compiled, context_of, entry, gateway, given_by, mesh_config, security, service

AT = Destination(8080, "127.0.0.1")
ORDERS = "sidecar~shop~orders-1"


def policy(name: str, spec: str, namespace: str = "shop") -> str:
    return security("AuthorizationPolicy", name, spec, namespace)


def context(*texts: str, proxy: str = ORDERS) -> Context:
    return context_of(compiled(service("orders"), entry("orders-1"), gateway(), *texts).mesh, proxy)


def filters(*texts: str, at: Destination = AT, proxy: str = ORDERS) -> dict[type, Any]:
    return http_policy(context(*texts, proxy=proxy), at).filters


def names(rules: Any) -> list[str]:
    return [rule.name for rule in rules]


def rule(name: str, index: int = 0, namespace: str = "shop") -> str:
    return f"ns[{namespace}]-policy[{name}]-rule[{index}]"


GET = "rules: [{to: [{operation: {methods: [GET]}}]}]"


def test_without_policies_the_usual_filters_are_there_and_do_nothing() -> None:
    """A policy that comes later must not need a new listener, which would cut connections."""
    found = filters()
    assert found[Deny] == Deny()
    assert found[Allow] == Allow(None)
    assert found[JwtAuthn] == JwtAuthn(())
    assert found[AllowPolicies] == AllowPolicies(())
    assert not {Custom, Audit} & found.keys()


def test_each_action_has_its_rules() -> None:
    found = filters(
        policy("allow", GET), policy("deny", f"action: DENY\n{GET}"), policy("audit", f"action: AUDIT\n{GET}")
    )
    assert names(found[Allow].rules) == [rule("allow")]
    assert names(found[Deny].rules) == [rule("deny")]
    assert names(found[Audit].rules) == [rule("audit")]
    assert found[AllowPolicies].names == (rule("allow"),)


def test_policies_of_the_root_namespace_and_its_own_are_united() -> None:
    found = filters(
        policy("here", GET), policy("root", GET, "istio-system"), policy("there", GET, "other"),
        policy("users", f"selector: {{matchLabels: {{app: users}}}}\n{GET}"),
    )  # fmt: skip
    assert sorted(names(found[Allow].rules)) == [rule("root", namespace="istio-system"), rule("here")]


def test_an_allow_policy_that_cannot_match_here_lets_nobody_in() -> None:
    elsewhere = policy("other-port", "rules: [{to: [{operation: {ports: ['9090']}}]}]")
    assert filters(elsewhere)[Allow].rules == ()
    assert names(filters(elsewhere, at=Destination(9090))[Allow].rules) == [rule("other-port")]
    assert filters(policy("nobody", "{}"))[Allow].rules == ()


def test_a_dry_run_enforces_nothing() -> None:
    def tried(name: str, spec: str) -> str:
        return policy(name, spec).replace(
            "namespace: shop}", "namespace: shop, annotations: {istio.io/dry-run: 'true'}}"
        )

    found = filters(tried("allow", GET), tried("deny", f"action: DENY\n{GET}"))
    assert found[Allow].rules is None
    assert names(found[Allow].dry_run) == [rule("allow")]
    assert found[Deny].rules == ()
    assert names(found[Deny].dry_run) == [rule("deny")]


OPA = mesh_config("""\
    extensionProviders:
    - name: opa
      envoyExtAuthzGrpc: {service: opa.auth.svc.cluster.local, port: 9191}
    """)
ASK = policy("ask", f"action: CUSTOM\nprovider: {{name: opa}}\n{GET}")


def test_custom_asks_a_known_provider() -> None:
    opa = service("opa", "{name: grpc, port: 9191}", "auth")
    (asked,) = filters(OPA, opa, ASK)[Custom].providers
    assert (asked.provider.name, asked.cluster) == ("opa", "outbound|9191||opa.auth.svc.cluster.local")
    assert names(asked.rules) == [rule("ask")]


def test_a_provider_whose_service_is_unknown_answers_nothing() -> None:
    (asked,) = filters(OPA, ASK)[Custom].providers
    assert asked.cluster == "BlackHoleCluster"


def test_a_provider_that_nobody_knows_denies() -> None:
    found = filters(ASK)
    assert Custom not in found
    assert names(found[Deny].rules) == [f"{rule('ask')}-deny-due-to-bad-CUSTOM-action"]


def test_a_broken_policy_denies_everything_it_selects() -> None:
    broken = policy("broken", "action: DENNY")
    (denied,) = filters(broken)[Deny].rules
    assert (denied.name, denied.predicate) == ("ns[shop]-policy[broken]-broken", TRUE)
    users = filters(broken, entry("users-1"), proxy="sidecar~shop~users-1")
    assert names(users[Deny].rules) == ["ns[shop]-policy[broken]-broken"]
    selected = policy("broken", "selector: {matchLabels: {app: orders}}\naction: DENNY")
    assert filters(selected, entry("users-1"), proxy="sidecar~shop~users-1")[Deny].rules == ()


def test_a_revoked_identity_is_refused_by_every_port_first_of_all() -> None:
    mesh = compiled(service("orders"), entry("orders-1"), policy("deny", f"action: DENY\n{GET}")).mesh
    gone = "spiffe://cluster.local/ns/shop/sa/gone"
    revoking = context_of(mesh, ORDERS, replace(offline_world(mesh), revoked=frozenset({gone})))
    rules = http_policy(revoking, AT).filters[Deny].rules
    assert names(rules) == ["isthmus-revoked-identity", rule("deny")]
    assert rules[0].predicate == Peer(Exact(gone))
    (network, *_) = tcp_filters(revoking, AT, "inbound_8080", closed=False)[0]
    message: Any = unpack(network.typed_config)
    assert "isthmus-revoked-identity" in set(message.rules.policies)


def tokens(name: str, *rules: str, app: str = "orders") -> str:
    lines = "\n- ".join(rules)
    return security("RequestAuthentication", name, f"selector: {{matchLabels: {{app: {app}}}}}\njwtRules:\n- {lines}")


TWO = tokens(
    "b",
    "{issuer: https://b.example.com, outputPayloadToHeader: X-B}",
    "{issuer: https://a.example.com, outputClaimToHeaders: [{header: x-user, claim: sub}]}",
)


def test_token_rules_are_sorted_by_issuer() -> None:
    assert [one.issuer for one in jwt_rules(context(TWO))] == ["https://a.example.com", "https://b.example.com"]


def test_only_its_own_rules_headers_are_a_workloads_but_all_are_the_edges() -> None:
    users = tokens("users", "{issuer: https://c.example.com, outputPayloadToHeader: x-c}", app="users")
    found = context(TWO, users)
    assert set(output_headers(found)) == {"x-b", "x-user"}
    assert set(edge_headers(found.mesh)) == {"x-b", "x-user", "x-c"}


def test_keys_come_from_the_world() -> None:
    mesh = compiled(service("orders"), entry("orders-1"), TWO).mesh
    world = replace(offline_world(mesh), jwks={("https://a.example.com", None): IssuerKeys('{"keys": []}')})
    rules = http_policy(context_of(mesh, ORDERS, world), AT).filters[JwtAuthn].rules
    assert [(one.rule.issuer, one.jwks) for one in rules] == [
        ("https://a.example.com", '{"keys": []}'),
        ("https://b.example.com", None),
    ]


def test_the_gateway_tells_nobody_of_envoy() -> None:
    assert filters(proxy="gateway~shop~edge")[Router].suppress_envoy_headers
    assert not filters()[Router].suppress_envoy_headers


def test_origins_name_the_policies() -> None:
    origins = http_policy(context(TWO, policy("allow", GET)), AT).origins
    assert [one.ref.kind for one in origins] == ["AuthorizationPolicy", "RequestAuthentication"]


def test_what_policies_made_names_them_and_the_workload() -> None:
    found = given_by(ORDERS, service("orders"), entry("orders-1"), TWO, policy("allow", GET))
    (allow,) = (built for name, built in found.snapshot.of(EXTENSION).items() if name.endswith("rbac.allow"))
    assert [one.ref.kind for one in allow.origins] == ["AuthorizationPolicy", "RequestAuthentication", "WorkloadEntry"]


def on_tcp(*texts: str) -> tuple[list[tuple[str, set[str]]], tuple[str, ...]]:
    """Each RBAC's action with its enforced policies, and the names of the ALLOW rules."""
    found, allowing = tcp_filters(context(*texts), AT, "inbound_8080", closed=False)
    messages: list[Any] = [unpack(one.typed_config) for one in found]
    return [(one.rules.Action.Name(one.rules.action), set(one.rules.policies)) for one in messages], allowing.names


def test_tcp_without_policies() -> None:
    assert on_tcp() == ([], ())


def test_on_tcp_an_allow_rule_that_needs_http_allows_nobody() -> None:
    mixed = policy("mixed", "rules: [{to: [{operation: {methods: [GET]}}]}, {from: [{source: {namespaces: [web]}}]}]")
    assert on_tcp(mixed) == ([("ALLOW", {rule("mixed", 1)})], (rule("mixed", 1),))
    assert on_tcp(policy("http", GET)) == ([("ALLOW", set())], ())


@pytest.mark.parametrize(
    ("rules", "denies"),
    [
        (GET, True),
        ("rules: [{to: [{operation: {methods: [GET], ports: ['9']}}]}]", False),
        ("rules: [{to: [{operation: {notMethods: [GET]}}]}]", True),
    ],
)
def test_on_tcp_a_deny_rule_denies_more(rules: str, denies: bool) -> None:
    assert on_tcp(policy("deny", f"action: DENY\n{rules}")) == ([("DENY", {rule("deny")})] if denies else [], ())


def test_on_tcp_broken_comes_first_and_custom_cannot_be_asked() -> None:
    (found, allowing) = on_tcp(policy("broken", "action: DENNY"), ASK, policy("allow", "rules: [{}]"))
    assert found == [
        ("DENY", {"ns[shop]-policy[broken]-broken", f"{rule('ask')}-deny-due-to-CUSTOM-on-TCP"}),
        ("ALLOW", {rule("allow")}),
    ]
    assert allowing == (rule("allow"),)


@pytest.mark.parametrize(
    ("action", "field", "pattern"),
    [
        ("DENY", "hosts", r"(?i)a\.example\.*(:.*)?"),
        ("DENY", "notHosts", r"(?i)a\.example(:[^:]*)?"),
        ("ALLOW", "hosts", r"(?i)a\.example(:[^:]*)?"),
        ("ALLOW", "notHosts", r"(?i)a\.example\.*(:.*)?"),
    ],
)
def test_a_host_is_wide_where_it_refuses_and_the_routes_own_where_it_allows(
    action: str, field: str, pattern: str
) -> None:
    found = filters(policy("p", f"action: {action}\nrules: [{{to: [{{operation: {{{field}: [a.example]}}}}]}}]"))
    (rule,) = found[Deny if action == "DENY" else Allow].rules
    asked = Host(Regex(pattern))
    assert rule.predicate == (Not(asked) if field == "notHosts" else asked)
