from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from security_manifest import SHOP, Applied, applied, origin, policy

from isthmus.config.decode import Field, Support
from isthmus.kinds.authorization_policy import KIND
from isthmus.model.facts import Facts, holds
from isthmus.model.federation import BundleEndpointProfile, FederatedTrustDomain
from isthmus.model.match import Exact, Regex
from isthmus.model.mesh import Mesh
from isthmus.model.policy import Action
from isthmus.model.predicate import TRUE, Peer, Predicate
from isthmus.model.selector import Scope
from isthmus.model.settings import ExtAuthz, Settings

ORDERS = "spiffe://cluster.local/ns/shop/sa/orders"
USERS = "spiffe://cluster.local/ns/shop/sa/users"
WEB = "spiffe://cluster.local/ns/front/sa/web"


def authorization(spec: str, namespace: str = "shop", mesh: Mesh = SHOP) -> Applied:
    return applied(KIND, policy("AuthorizationPolicy", spec, namespace), mesh)


def predicate(rule: str, trust_domain: str = "cluster.local", warnings: tuple[str, ...] = ()) -> Predicate:
    """The predicate of one rule; ``warnings``: the codes that it is reported with."""
    mesh = replace(SHOP, settings=Settings(trust_domain=trust_domain))
    result = authorization("rules:\n- " + rule.replace("\n", "\n  "), mesh=mesh)
    assert tuple(text.split()[2] for text in result.found) == warnings
    return result.mesh.policies.authorization[0].rules[0].predicate


def source(field: str, **options: object) -> Predicate:
    return predicate(f"from: [{{source: {{{field}}}}}]", **options)  # type: ignore[arg-type]


def operation(field: str, **options: object) -> Predicate:
    return predicate(f"to: [{{operation: {{{field}}}}}]", **options)  # type: ignore[arg-type]


def when(key: str, values: str, **options: object) -> Predicate:
    return predicate(f'when: [{{key: "{key}", {values}}}]', **options)  # type: ignore[arg-type]


def from_ip(address: str) -> Facts:
    return Facts(source=ip_address(address), remote=ip_address("198.51.100.1"))


def forwarded_for(address: str) -> Facts:
    return Facts(source=ip_address("198.51.100.1"), remote=ip_address(address))


def token(**claims: object) -> Facts:
    return Facts(claims=claims)  # type: ignore[arg-type]


PEER_CASES = [
    ("principals: [cluster.local/ns/shop/sa/orders]", [ORDERS], [USERS, ORDERS + "2", None]),
    ("principals: [cluster.local/ns/shop/*]", [ORDERS, USERS], [WEB, None]),
    ('principals: ["*/sa/orders"]', [ORDERS, "spiffe://cluster.local/ns/x/sa/orders"], [USERS, None]),
    ('principals: ["*"]', [ORDERS, WEB], [None]),
    ("principals: [cluster.local/ns/shop/sa/orders, cluster.local/ns/front/sa/web]", [ORDERS, WEB], [USERS, None]),
    ("notPrincipals: [cluster.local/ns/shop/sa/orders]", [USERS, None], [ORDERS]),
    ('notPrincipals: ["*"]', [None], [ORDERS]),
    ("namespaces: [shop]", [ORDERS, USERS], [WEB, "spiffe://cluster.local/ns/shop2/sa/a", None]),
    ("namespaces: [sh]", [], [ORDERS]),
    ('namespaces: ["sh*"]', [ORDERS], [WEB, None]),
    ('namespaces: ["*op"]', [ORDERS], [WEB, None]),
    ('namespaces: ["s*p"]', [ORDERS], [WEB, None]),
    ('namespaces: ["*"]', [ORDERS, WEB], [None, "spiffe://elsewhere/ns/shop/sa/orders"]),
    ("notNamespaces: [shop]", [WEB, None], [ORDERS]),
    ("serviceAccounts: [orders]", [ORDERS], [USERS, WEB, None]),
    ("serviceAccounts: [front/web]", [WEB], [ORDERS, "spiffe://cluster.local/ns/shop/sa/web", None]),
    ("notServiceAccounts: [orders]", [USERS, None], [ORDERS]),
    ("trustDomains: [cluster.local]", [ORDERS], ["spiffe://cluster.local2/ns/shop/sa/orders", None]),
    ('trustDomains: ["clus*"]', [ORDERS], ["spiffe://other/ns/cluster/sa/x", None]),
    ('trustDomains: ["*.local"]', [ORDERS], ["spiffe://other/ns/a.local/sa/x", None]),
    ('trustDomains: ["*"]', [ORDERS], [None]),
    ("notTrustDomains: [cluster.local]", [None, "spiffe://other/ns/shop/sa/orders"], [ORDERS]),
    ("namespaces: [shop], notPrincipals: [cluster.local/ns/shop/sa/users]", [ORDERS], [USERS, WEB, None]),
]


@pytest.mark.parametrize(("field", "yes", "no"), PEER_CASES)
def test_peers(field: str, yes: list[str | None], no: list[str | None]) -> None:
    rule = source(field)
    assert [peer for peer in [*yes, *no] if holds(rule, Facts(peer=peer))] == yes


@pytest.mark.parametrize("field", [field for field, _, _ in PEER_CASES if field.startswith("namespaces")])
def test_a_namespace_is_never_found_elsewhere_in_an_identity(field: str) -> None:
    rule = source(field)
    for peer in (
        "spiffe://cluster.local/ns/front/sa/x,spiffe://cluster.local/ns/shop/sa/orders",
        "spiffe://cluster.local/ns/shop/sa/orders,spiffe://cluster.local/ns/front/sa/x",
        "spiffe://evil/ns/shop/sa/x",
        "spiffe://cluster.local/ns/shop/sa/",
        "spiffe://cluster_local/ns/shop/sa/orders",
    ):
        assert not holds(rule, Facts(peer=peer)), peer


@pytest.mark.parametrize(
    ("key", "values", "field"),
    [
        ("source.principal", "[cluster.local/ns/shop/sa/orders]", "principals"),
        ("source.namespace", "['sh*', front]", "namespaces"),
        ("source.serviceAccount", "[front/web, orders]", "serviceAccounts"),
        ("source.trustDomain", "[cluster.local]", "trustDomains"),
        ("source.ip", "[10.0.0.0/8]", "ipBlocks"),
        ("remote.ip", "[10.0.0.0/8, 1.2.3.4]", "remoteIpBlocks"),
        ("request.auth.principal", "[iss/sub]", "requestPrincipals"),
    ],
)
def test_conditions_that_are_fields_of_a_source_too(key: str, values: str, field: str) -> None:
    negative = f"not{field[0].upper()}{field[1:]}"
    assert when(key, f"values: {values}") == source(f"{field}: {values}")
    assert when(key, f"notValues: {values}") == source(f"{negative}: {values}")


def test_cluster_local_stands_for_the_mesh() -> None:
    home = "spiffe://prod.example/ns/shop/sa/orders"
    rule = source("principals: [cluster.local/ns/shop/sa/orders]", trust_domain="prod.example")
    assert rule == Peer(Exact(home))
    prefix = source("principals: [cluster.local/ns/shop/sa/*]", trust_domain="prod.example")
    assert holds(prefix, Facts(peer=home))
    assert source("serviceAccounts: [orders]", trust_domain="prod.example") == Peer(Exact(home))
    assert source("namespaces: [shop]", trust_domain="prod.example") == Peer(
        Regex(r"spiffe://prod\.example/ns/shop/sa/[^,/]+")
    )


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("principals: [other.example/ns/shop/sa/orders]", "other.example"),
        ("principals: [cluster.local/ns/shop/*]", "cluster.local"),
        ("notPrincipals: [other.example/*]", "other.example"),
        ("trustDomains: [cluster.local]", "cluster.local"),
    ],
)
def test_another_trust_domain_is_warned_about(field: str, other: str) -> None:
    mesh = replace(SHOP, settings=Settings(trust_domain="prod.example"))
    result = authorization(f"rules:\n- from:\n  - source:\n      {field}", mesh=mesh)
    value = field.partition("[")[2].rstrip("]")
    column = 9 + field.index("[") + 1
    path = f"spec.rules[0].from[0].source.{field.partition(':')[0]}[0]"
    assert result.found == [
        f'8:{column} warning ISM2234 {path}: "{value}": the mesh\'s trust domain is "prod.example", '
        f'a peer of "{other}" is never let in'
    ]


@pytest.mark.parametrize(
    ("field", "yes", "no"),
    [
        ("ipBlocks: [10.0.0.0/8]", [from_ip("10.1.2.3")], [from_ip("11.0.0.1"), forwarded_for("10.1.2.3"), Facts()]),
        ("ipBlocks: [10.0.0.1/8, 1.2.3.4]", [from_ip("10.9.9.9"), from_ip("1.2.3.4")], [from_ip("1.2.3.5")]),
        ('ipBlocks: ["2001:db8::/32"]', [from_ip("2001:db8::1")], [from_ip("2001:db9::1"), from_ip("10.0.0.1")]),
        ("notIpBlocks: [10.0.0.0/8]", [from_ip("11.0.0.1")], [from_ip("10.1.2.3")]),
        ("remoteIpBlocks: [10.0.0.0/8]", [forwarded_for("10.1.2.3")], [from_ip("10.1.2.3"), Facts()]),
        ("notRemoteIpBlocks: [10.0.0.0/8]", [from_ip("10.1.2.3")], [forwarded_for("10.1.2.3")]),
    ],
)
def test_addresses(field: str, yes: list[Facts], no: list[Facts]) -> None:
    rule = source(field)
    assert [facts for facts in [*yes, *no] if holds(rule, facts)] == yes


ALICE = token(iss="https://idp.example", sub="alice")


@pytest.mark.parametrize(
    ("value", "yes", "no"),
    [
        ("*", [ALICE], [Facts(), token(iss="a"), token(iss="a", sub=""), token(iss="a", sub=["b"])]),
        ("https://idp.example/alice", [ALICE], [token(iss="https://idp.example", sub="alice2"), Facts()]),
        ("https://idp.example/*", [ALICE], [token(iss="https://idp.example/evil", sub="alice")]),
        ("https://idp.example/al*", [ALICE], [token(iss="https://idp.example", sub="bob")]),
        ("*/alice", [ALICE, token(iss="x", sub="alice")], [token(iss="x", sub="y/alice"), token(iss="x", sub="bob")]),
        ("*.example/alice", [ALICE], [token(iss="https://idp.test", sub="alice")]),
        ("*ice", [ALICE, token(iss="x", sub="ice")], [token(iss="ice", sub="bob")]),
        ("https*", [], []),
    ],
)
def test_request_principals(value: str, yes: list[Facts], no: list[Facts]) -> None:
    rule = source(f'requestPrincipals: ["{value}"]')
    assert [facts for facts in [*yes, *no] if holds(rule, facts)] == yes
    inverse = source(f'notRequestPrincipals: ["{value}"]')
    assert [facts for facts in [*yes, *no] if holds(inverse, facts)] == no


def test_a_request_principal_without_a_slash_and_with_a_star_at_its_end_is_an_issuer() -> None:
    rule = source('requestPrincipals: ["issuer*"]')
    assert holds(rule, token(iss="issuer-1", sub="x"))
    assert not holds(rule, token(iss="other", sub="issuer-1"))


def test_a_subject_with_a_slash_does_not_pass_for_another_issuer() -> None:
    rule = source("requestPrincipals: [https://idp.example/tenant/alice]")
    assert holds(rule, token(iss="https://idp.example/tenant", sub="alice"))
    assert not holds(rule, token(iss="https://idp.example", sub="tenant/alice"))


def test_a_star_in_front_makes_the_one_at_the_end_plain() -> None:
    rule = source('requestPrincipals: ["*/*"]', warnings=("ISM2232",))
    assert not holds(rule, ALICE)
    assert holds(rule, token(iss="x", sub="*"))


@pytest.mark.parametrize(
    ("field", "yes", "no"),
    [
        (
            "methods: [GET, PUT]",
            [Facts(method="GET"), Facts(method="PUT")],
            [Facts(method="POST"), Facts(method="get")],
        ),
        ('methods: ["P*"]', [Facts(method="PUT")], [Facts(method="GET")]),
        ('methods: ["*"]', [Facts(method="GET")], []),
        ("notMethods: [GET]", [Facts(method="PUT")], [Facts(method="GET")]),
        (
            "paths: [/admin]",
            [Facts(path="/admin"), Facts(path="/admin?x=1")],
            [Facts(path="/admin/"), Facts(path="/ADMIN")],
        ),
        ("paths: [/api/*]", [Facts(path="/api/"), Facts(path="/api/a/b")], [Facts(path="/api"), Facts(path="/x/api/")]),
        ('paths: ["*.html"]', [Facts(path="/a/b.html?q")], [Facts(path="/a.htm")]),
        ('paths: ["*"]', [Facts(path="/")], []),
        ("paths: ['/users/{*}/orders']", [Facts(path="/users/1/orders")], [Facts(path="/users/1/2/orders")]),
        ("paths: ['/users/{**}']", [Facts(path="/users/1/2")], [Facts(path="/other")]),
        ("notPaths: [/health*]", [Facts(path="/")], [Facts(path="/healthz")]),
        ("hosts: [shop.example]", [Facts(host="SHOP.example")], [Facts(host="shop.example:8080"), Facts(host="x")]),
        ('hosts: ["shop.example:*"]', [Facts(host="shop.example:8080")], [Facts(host="shop.example")]),
        ('hosts: ["*.example"]', [Facts(host="a.Example")], [Facts(host="example")]),
        ('hosts: ["*"]', [Facts(host="x")], [Facts()]),
        ("notHosts: [shop.example]", [Facts(host="x")], [Facts(host="Shop.example")]),
        ('ports: ["8080", "9090"]', [Facts(port=8080), Facts(port=9090)], [Facts(port=80)]),
        ('notPorts: ["8080"]', [Facts(port=80)], [Facts(port=8080)]),
        ("methods: [GET], paths: [/a]", [Facts(path="/a")], [Facts(path="/b"), Facts(method="PUT", path="/a")]),
    ],
)
def test_operations(field: str, yes: list[Facts], no: list[Facts]) -> None:
    rule = operation(field)
    assert [facts for facts in [*yes, *no] if holds(rule, facts)] == yes


def metadata(**values: object) -> Facts:
    return Facts(metadata={"envoy.filters.network.mysql_proxy": values})  # type: ignore[dict-item]


def header(**headers: str) -> Facts:
    return Facts(headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("key", "values", "yes", "no"),
    [
        ("request.headers[X-Role]", "[admin]", [header(x_role="admin")], [header(x_role="Admin"), Facts()]),
        ("request.headers[x-role]", '["adm*"]', [header(x_role="admin")], [header(x_role="user"), Facts()]),
        ("request.headers[x-role]", '["*min"]', [header(x_role="admin")], [header(x_role="user"), Facts()]),
        ("request.headers[x-role]", '["*"]', [header(x_role="admin"), header(x_role="")], [Facts()]),
        ("request.headers[host]", "[shop.example]", [Facts(host="SHOP.example")], [Facts(host="x")]),
        ("request.headers[:authority]", '["*.example"]', [Facts(host="a.example")], [Facts(host="x")]),
        ("request.headers[:method]", "[GET]", [Facts(method="GET")], [Facts(method="PUT")]),
        (
            "request.experimental.inline.headers[x-role]",
            "[admin]",
            [header(x_role="admin"), header(x_role="a,admin"), header(x_role="admin,b"), header(x_role="a,admin,b")],
            [header(x_role="admins"), header(x_role="a,xadmin"), Facts()],
        ),
        (
            "request.experimental.inline.headers[x-role]",
            '["adm*"]',
            [header(x_role="user,admin")],
            [header(x_role="user,xadmin"), Facts()],
        ),
        (
            "request.experimental.inline.headers[x-role]",
            '["*min"]',
            [header(x_role="admin,user")],
            [header(x_role="user"), Facts()],
        ),
        ("request.experimental.inline.headers[x-role]", '["*"]', [header(x_role="")], [Facts()]),
        ("request.auth.audiences", "[orders]", [token(aud="orders"), token(aud=["a", "orders"])], [token(aud="x")]),
        ("request.auth.presenter", "[app]", [token(azp="app")], [token(azp="x"), Facts()]),
        (
            "request.auth.claims[role]",
            "[admin]",
            [token(role="admin"), token(role=["admin"])],
            [token(role="x"), Facts()],
        ),
        ("request.auth.claims[role]", '["*"]', [token(role="x")], [token(other="x"), Facts()]),
        ("request.auth.claims[realm][role]", '["a*"]', [token(realm={"role": "admin"})], [token(realm="admin")]),
        ("request.auth.claims[a.b]", "[x]", [Facts(claims={"a.b": "x"})], [token(a={"b": "x"})]),
        ("request.auth.claims[level]", '["7"]', [token(level="7")], [token(level=7)]),
        ("destination.ip", "[10.0.0.0/8]", [Facts(address=ip_address("10.1.1.1"))], [Facts(), from_ip("10.1.1.1")]),
        ("destination.port", '["8080"]', [Facts(port=8080)], [Facts(port=80)]),
        ("connection.sni", '["*.example"]', [Facts(sni="a.example")], [Facts(sni="a.test"), Facts()]),
        ("experimental.envoy.filters.network.mysql_proxy[db.table]", '["[update]"]', [], []),
    ],
)
def test_conditions(key: str, values: str, yes: list[Facts], no: list[Facts]) -> None:
    rule, inverse = when(key, f"values: {values}"), when(key, f"notValues: {values}")
    assert [facts for facts in [*yes, *no] if holds(rule, facts)] == yes
    assert [facts for facts in [*yes, *no] if holds(inverse, facts)] == no


def test_filter_metadata() -> None:
    key = "experimental.envoy.filters.network.mysql_proxy[table]"
    text, listed = when(key, "values: ['upd*']"), when(key, "values: ['[update]']")
    assert holds(text, metadata(table="update"))
    assert not holds(text, metadata(table="drop"))
    assert not holds(text, metadata(other="update"))
    assert holds(listed, metadata(table=["select", "update"]))
    assert not holds(listed, metadata(table=["select"]))


def test_values_and_not_values_both_hold() -> None:
    rule = when("source.ip", "values: [10.0.0.0/8], notValues: [10.0.0.1]")
    assert holds(rule, from_ip("10.0.0.2"))
    assert not holds(rule, from_ip("10.0.0.1"))
    assert not holds(rule, from_ip("11.0.0.1"))


def test_one_source_one_operation_and_every_condition() -> None:
    rule = predicate(
        """from:
- source: {namespaces: [shop]}
- source: {namespaces: [front]}
to:
- operation: {methods: [GET]}
- operation: {paths: [/open]}
when:
- key: request.headers[x-a]
  values: ["1"]
- key: request.headers[x-b]
  values: ["2"]"""
    )
    good = Facts(peer=WEB, method="GET", path="/", headers={"x-a": "1", "x-b": "2"})
    assert holds(rule, good)
    assert holds(rule, replace(good, peer=ORDERS, method="PUT", path="/open"))
    for bad in (
        replace(good, peer=None),
        replace(good, peer="spiffe://cluster.local/ns/other/sa/x"),
        replace(good, method="PUT"),
        replace(good, headers={"x-a": "1"}),
    ):
        assert not holds(rule, bad)


def test_an_empty_rule_is_true_and_no_rules_are_none() -> None:
    assert authorization("rules: [{}]").mesh.policies.authorization[0].rules[0].predicate == TRUE
    for nothing in ("{}", "rules: []", "action: ALLOW"):
        result = authorization(nothing) if nothing != "{}" else applied(KIND, _without_spec())
        assert result.found == []
        (read,) = result.mesh.policies.authorization
        assert (read.action, read.rules) == (Action.ALLOW, ())


def _without_spec() -> str:
    return "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"


def test_the_policy_itself() -> None:
    specs = [
        (
            "shop",
            "b",
            "selector: {matchLabels: {app: orders}}\naction: DENY\nrules:\n- {}\n- to: [{operation: {methods: [GET]}}]",
        ),
        ("istio-system", "a", "action: AUDIT\nrules: [{}]"),
        ("edge", "a", "selector: {matchLabels: {app: gateway}}"),
    ]
    text = "---\n".join(policy("AuthorizationPolicy", spec, namespace, name) for namespace, name, spec in specs)
    result = applied(KIND, text)
    assert result.found == []
    first, second, third = result.mesh.policies.authorization
    assert (first.name, first.namespace, first.scope) == ("b", "shop", Scope("shop", (("app", "orders"),)))
    assert (first.action, first.dry_run, first.provider) == (Action.DENY, False, None)
    assert [rule.origin.source.line for rule in first.rules] == [8, 9]
    assert first.rule_name(1) == "ns[shop]-policy[b]-rule[1]"
    assert (second.scope, second.action) == (Scope(None), Action.AUDIT)
    assert (third.scope, third.rules) == (Scope("edge", (("app", "gateway"),)), ())


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (
            "action: DENNY",
            '5:11 error ISM1106 spec.action: "DENNY" is not one of ALLOW, DENY, AUDIT, CUSTOM (did you mean',
        ),
        ("action: DENY", "5:11 error ISM1106 spec.action: DENY without rules is never triggered"),
        ("action: CUSTOM\nprovider: {name: opa}", "5:11 error ISM1106 spec.action: CUSTOM without rules"),
        ("action: CUSTOM\nrules: [{}]", '5:3 error ISM1103 spec: the field "provider" is required'),
        ("action: CUSTOM\nprovider: {}\nrules: [{}]", '6:13 error ISM1103 spec.provider: the field "name" is required'),
        ("action: DENY\nprovider: {name: opa}\nrules: [{}]", "6:3 error ISM1106 spec.provider: a provider is asked by"),
        ("targetRefs: []", '5:3 error ISM1105 spec.targetRefs: the field "targetRefs" narrows'),
        ("targetRef: {}", '5:3 error ISM1105 spec.targetRef: the field "targetRef" narrows'),
        ("rule: []", '5:3 error ISM1101 spec.rule: no field "rule" in spec (did you mean "rules"?)'),
        ("rules: {}", "5:10 error ISM1102 spec.rules: expected a list"),
        ("rules: [null]", "5:11 error ISM1102 spec.rules[0]: expected a mapping"),
    ],
)
def test_what_is_wrong_with_a_policy(spec: str, found: str) -> None:
    result = authorization(spec)
    assert result.mesh.policies.authorization == ()
    assert len(result.found) == 1
    assert result.found[0].startswith(found)


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("form: []", '6:5 error ISM1101 spec.rules[0].form: no field "form" in spec.rules[0] (did you mean "from"?)'),
        ("from: []", "6:11 error ISM1106 spec.rules[0].from: at least 1 entry is needed"),
        ("to: []", "6:9 error ISM1106 spec.rules[0].to: at least 1 entry is needed"),
        ("from: [{}]", '6:12 error ISM1103 spec.rules[0].from[0]: the field "source" is required'),
        ("to: [{}]", '6:10 error ISM1103 spec.rules[0].to[0]: the field "operation" is required'),
        ("from: [{source: {}}]", "6:21 error ISM1106 spec.rules[0].from[0].source: the source is empty"),
        ("to: [{operation: {}}]", "6:22 error ISM1106 spec.rules[0].to[0].operation: the operation is empty"),
        ("when: [{values: [a]}]", '6:12 error ISM1103 spec.rules[0].when[0]: the field "key" is required'),
        ("when: [{key: source.ip}]", "6:12 error ISM1106 spec.rules[0].when[0]: at least one of values, notValues"),
        ("when: [{key: sourc.ip, values: [a]}]", 'key: there is no key "sourc.ip" (did you mean "source.ip"?)'),
        (
            "when: [{key: 'request.header[x]', values: [a]}]",
            'there is no key "request.header[x]" (did you mean "request.he',
        ),
        (
            "when: [{key: nonsense, values: [a]}]",
            '6:18 error ISM1106 spec.rules[0].when[0].key: there is no key "nonsense"',
        ),
        ("when: [{key: request.headers, values: [a]}]", '"request.headers" is not written request.headers[NAME]'),
        ("when: [{key: 'request.headers[]', values: [a]}]", "is not written request.headers[NAME]"),
        ("when: [{key: 'request.headers[a][b]', values: [a]}]", "is not written request.headers[NAME]"),
        ("when: [{key: 'request.headers[a b]', values: [a]}]", '"a b" is not the name of a header'),
        ("when: [{key: 'request.headers[:path]', values: [a]}]", "to.operation.paths asks about the path"),
        ("when: [{key: request.auth.claims, values: [a]}]", "is not written request.auth.claims[NAME]"),
        (
            "when: [{key: experimental.envoy.filters.a.b, values: [a]}]",
            "is not written experimental.envoy.filters.NAME[",
        ),
        ("when: [{key: 'experimental.envoy.filters.[a]', values: [a]}]", "is not written experimental.envoy.filters"),
        (
            "when: [{key: 'destination.labels[app]', values: [a]}]",
            "is not a key any more: the policy's selector says it",
        ),
        ("when: [{key: destination.namespace, values: [a]}]", "is not a key any more: the policy's own namespace"),
        ("when: [{key: source.ip, values: [10.0.0.0/33]}]", '"10.0.0.0/33" is not an IP address or CIDR'),
        ("when: [{key: source.ip, notValues: ['']}]", "when[0].notValues[0]: an empty value is not possible here"),
        ("when: [{key: destination.port, values: ['0']}]", '"0" is not a port (1 to 65535)'),
    ],
)
def test_what_is_wrong_with_a_rule(rule: str, found: str) -> None:
    result = authorization("rules:\n- " + rule)
    assert result.mesh.policies.authorization == ()
    assert len(result.found) == 1
    assert found in result.found[0]
    assert " error " in result.found[0]


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("principals: [spiffe://cluster.local/ns/a/sa/b]", "7:29 error ISM1106"),
        ("principals: ['cluster.local/ns/a/sa/b,c']", "never matches: no identity has a comma"),
        ("principals: ['cluster.local/ns/*/sa/b']", "never matches: a wildcard stands only at one end"),
        ("principals: ['*/ns/a/*']", "never matches: a wildcard stands only at one end"),
        ("principals: ['']", "an empty value is not possible here"),
        ("principals: orders", "expected a list"),
        ("notPrincipals: ['a,b']", "never matches: no identity has a comma"),
        ("namespaces: ['a,b']", "never matches: it is not the name of a namespace"),
        ("namespaces: [a/b]", "never matches: it is not the name of a namespace"),
        ("notNamespaces: ['']", "an empty value is not possible here"),
        ("serviceAccounts: ['a*']", "a wildcard is not possible"),
        ("serviceAccounts: [a/b/c]", 'is not written "serviceAccount" or "namespace/serviceAccount"'),
        ("serviceAccounts: [/a]", 'is not written "serviceAccount"'),
        ("serviceAccounts: [" + "a" * 321 + "]", "at most 320 characters"),
        ("serviceAccounts: [" + ", ".join(f"a{i}" for i in range(17)) + "]", "at most 16 values are possible"),
        ("serviceAccounts: [a], namespaces: [b]", "serviceAccounts cannot stand beside principals or namespaces"),
        ("notServiceAccounts: [a], notPrincipals: [b]", "serviceAccounts cannot stand beside principals"),
        ("trustDomains: [a/b]", "never matches: it is not a trust domain"),
        ("notTrustDomains: ['*a*']", "never matches: it is not a trust domain"),
        ("requestPrincipals: [alice]", 'a request principal is written "issuer/subject"'),
        ("requestPrincipals: [https://idp.example/]", 'a request principal is written "issuer/subject"'),
        ("notRequestPrincipals: [/alice]", 'a request principal is written "issuer/subject"'),
        ("ipBlocks: [10.0.0.0/255.0.0.0]", "is not an IP address or CIDR"),
        ("ipBlocks: [localhost]", "is not an IP address or CIDR"),
        ("notIpBlocks: [10.0.0]", "is not an IP address or CIDR"),
        ("remoteIpBlocks: ['1.2.3.4/']", "is not an IP address or CIDR"),
        ("notRemoteIpBlocks: [':::']", "is not an IP address or CIDR"),
    ],
)
def test_what_is_wrong_with_a_source(field: str, found: str) -> None:
    result = authorization(f"rules:\n- from:\n  - source: {{{field}}}")
    assert result.mesh.policies.authorization == ()
    assert len(result.found) == 1
    assert found in result.found[0]
    assert " error " in result.found[0]


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("ports: [8080]", "7:27 error ISM1102 spec.rules[0].to[0].operation.ports[0]: expected a string"),
        ("ports: [http]", '"http" is not a port (1 to 65535)'),
        ('notPorts: ["65536"]', '"65536" is not a port (1 to 65535)'),
        ("methods: ['']", "an empty value is not possible here"),
        ("hosts: ['']", "an empty value is not possible here"),
        ("notHosts: ['']", "an empty value is not possible here"),
        ("notMethods: ['']", "an empty value is not possible here"),
        ("paths: ['/a/{b}']", "a path template has segments that are {*}, {**} or plain text"),
        ("paths: ['/a/{*}/b*']", "a path template has segments"),
        ("paths: ['/a/x{*}']", "a path template has segments"),
        ("notPaths: ['/{**}/{*}']", "{**} must be the last operator"),
        ("path: [/a]", '7:19 error ISM1101 spec.rules[0].to[0].operation.path: no field "path"'),
    ],
)
def test_what_is_wrong_with_an_operation(field: str, found: str) -> None:
    result = authorization(f"rules:\n- to:\n  - operation: {{{field}}}")
    assert result.mesh.policies.authorization == ()
    assert len(result.found) == 1
    assert found in result.found[0]


@pytest.mark.parametrize("value", ["/api/*/users", "*/x/*", "/a**"])
def test_a_star_inside_is_a_plain_character_and_warned_about(value: str) -> None:
    result = authorization(f"rules:\n- to:\n  - operation:\n      paths: ['{value}']")
    assert [text.split(":")[:2] for text in result.found] == [
        ["8", "17 warning ISM2232 spec.rules[0].to[0].operation.paths[0]"]
    ]


def test_a_plain_star_matches_itself() -> None:
    rule = operation("paths: ['/api/*/users']", warnings=("ISM2232",))
    assert holds(rule, Facts(path="/api/*/users"))
    assert not holds(rule, Facts(path="/api/1/users"))


def test_an_empty_list_restricts_nothing_and_is_warned_about() -> None:
    result = authorization("rules:\n- from:\n  - source: {principals: [], namespaces: [shop]}")
    assert result.found == [
        '7:28 warning ISM2233 spec.rules[0].from[0].source.principals: the empty list "principals" means any, not '
        "none: it restricts nothing"
    ]
    assert holds(result.mesh.policies.authorization[0].rules[0].predicate, Facts(peer=USERS))


@pytest.mark.parametrize("action", ["DENY", "AUDIT"])
def test_what_is_never_triggered_is_warned_about(action: str) -> None:
    result = authorization(f"action: {action}\nrules: []")
    assert result.found == [
        f"6:10 warning ISM2231 spec.rules: {action} without a rule is never triggered; "
        "for every request write rules: [{}]"
    ]


def test_a_selector_that_matches_nothing() -> None:
    result = authorization("selector: {matchLabels: {app: order}}")
    assert [text[:20] for text in result.found] == ["5:27 warning IST0127"]
    assert len(result.mesh.policies.authorization) == 1


OPA = replace(
    SHOP, settings=Settings(ext_authz=(ExtAuthz("opa-http", "opa.shop.svc.cluster.local", 80, False, origin()),))
)


def test_a_provider_that_there_is() -> None:
    result = authorization("action: CUSTOM\nprovider: {name: opa-http}\nrules: [{}]", mesh=OPA)
    assert result.found == []
    (read,) = result.mesh.policies.authorization
    assert (read.action, read.provider, len(read.rules)) == (Action.CUSTOM, "opa-http", 1)


def test_an_unknown_provider_is_an_error_and_the_policy_stays_to_deny() -> None:
    result = authorization("action: CUSTOM\nprovider: {name: opa-htp}\nrules: [{}]", mesh=OPA)
    assert result.found == [
        '6:20 error ISM2235 spec.provider.name: no ext_authz provider "opa-htp" in the mesh configuration '
        '(did you mean "opa-http"?): what the rules match is denied'
    ]
    (read,) = result.mesh.policies.authorization
    assert (read.action, read.provider, len(read.rules)) == (Action.CUSTOM, "opa-htp", 1)


def annotated(value: str, spec: str) -> Applied:
    text = (
        "apiVersion: security.istio.io/v1beta1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\n  namespace: shop\n"
        f'  annotations:\n    istio.io/dry-run: "{value}"\nspec: {spec}\n'
    )
    return applied(KIND, text, OPA)


@pytest.mark.parametrize(
    ("value", "action", "dry_run"),
    [("true", "ALLOW", True), ("True", "DENY", True), ("false", "DENY", False), ("0", "AUDIT", False)],
)
def test_dry_run(value: str, action: str, dry_run: bool) -> None:
    result = annotated(value, f"{{action: {action}, rules: [{{}}]}}")
    assert result.found == []
    assert result.mesh.policies.authorization[0].dry_run is dry_run


@pytest.mark.parametrize(
    ("value", "spec", "problem"),
    [
        ("true", "{action: AUDIT, rules: [{}]}", "AUDIT has no dry run"),
        ("true", "{action: CUSTOM, provider: {name: opa-http}, rules: [{}]}", "CUSTOM has no dry run"),
        ("yes", "{action: DENY, rules: [{}]}", 'the annotation istio.io/dry-run is "true" or "false", not "yes"'),
    ],
)
def test_a_dry_run_that_is_not_possible_is_an_error_and_enforced(value: str, spec: str, problem: str) -> None:
    result = annotated(value, spec)
    assert result.found == [
        f'7:23 error ISM2236 metadata.annotations["istio.io/dry-run"]: {problem}: the policy is enforced'
    ]
    assert result.mesh.policies.authorization[0].dry_run is False


def names(fields: tuple[Field, ...]) -> dict[str, Support]:
    """Every field below, by its path, as the generated reference finds it."""
    found: dict[str, Support] = {}
    for field in fields:
        found[field.name] = field.support
        reader = field.reader.item if field.reader is not None and field.reader.item is not None else field.reader
        if reader is not None:
            found |= {f"{field.name}.{name}": support for name, support in names(reader.fields).items()}
    return found


def test_the_reference_lists_every_field() -> None:
    listed = names(KIND.spec.fields)
    sources = ("principals", "requestPrincipals", "namespaces", "serviceAccounts", "trustDomains")
    operations = ("hosts", "ports", "methods", "paths")
    both = [
        *(f"rules.from.source.{name}" for name in (*sources, "ipBlocks", "remoteIpBlocks")),
        *(f"rules.to.operation.{name}" for name in operations),
    ]
    negative = [
        f"{path.rpartition('.')[0]}.not{(name := path.rpartition('.')[2])[0].upper()}{name[1:]}" for path in both
    ]
    rest = [
        "selector",
        "selector.matchLabels",
        "action",
        "provider",
        "provider.name",
        "rules",
        "rules.from",
        "rules.to",
    ]
    rest += ["rules.when", "rules.when.key", "rules.when.values", "rules.when.notValues"]
    rest += ["rules.from.source", "rules.to.operation"]
    narrowing = {"targetRef", "targetRefs"}
    assert set(listed) == {*both, *negative, *rest, *narrowing}
    assert {name for name, support in listed.items() if support is not Support.ENFORCED} == narrowing


ALIASED = replace(
    SHOP,
    settings=Settings(trust_domain="new-td", trust_domain_aliases=("old-td", "elsewhere")),
    federated=(
        FederatedTrustDomain(
            "td2", "https://td2", BundleEndpointProfile.https_web, None, None, origin("FederatedTrustDomain")
        ),
    ),
)


def callers(field: str) -> frozenset[str]:
    """The trust domains whose ``ns/shop/sa/orders`` gets in."""
    result = authorization(f"rules:\n- from: [{{source: {{{field}}}}}]", mesh=ALIASED)
    assert result.found == []
    rule = result.mesh.policies.authorization[0].rules[0].predicate
    known = ("new-td", "old-td", "elsewhere", "td2", "cluster.local", "stranger")
    return frozenset(name for name in known if holds(rule, Facts(peer=f"spiffe://{name}/ns/shop/sa/orders")))


OURS = frozenset({"new-td", "old-td", "elsewhere"})


@pytest.mark.parametrize(
    ("field", "domains"),
    [
        ("principals: [new-td/ns/shop/sa/orders]", OURS),
        ("principals: [old-td/ns/shop/sa/orders]", OURS),
        ("principals: [cluster.local/ns/shop/sa/orders]", OURS),
        ('principals: ["*-td/ns/shop/sa/orders"]', OURS),
        ("principals: [old-td/ns/shop/sa/*]", OURS),
        ("principals: [td2/ns/shop/sa/orders]", {"td2"}),
        ('principals: ["*/ns/shop/sa/orders"]', {*OURS, "td2", "cluster.local", "stranger"}),
        ("principals: [old-td/ns/shop/*]", {"old-td"}),
        ("namespaces: [shop]", OURS),
        ("serviceAccounts: [orders]", OURS),
    ],
)
def test_the_mesh_is_meant_by_each_of_its_names(field: str, domains: frozenset[str]) -> None:
    """Istio: pilot/pkg/security/trustdomain/bundle.go; of namespaces and service accounts, the mesh's own alone."""
    assert callers(field) == domains


@pytest.mark.parametrize(("value", "domains"), [("old-td", OURS), ("td2", {"td2"}), ("*-td", {"new-td", "old-td"})])
def test_a_trust_domain_is_meant_by_each_of_its_names(value: str, domains: frozenset[str]) -> None:
    result = authorization(f'rules:\n- when: [{{key: source.trustDomain, values: ["{value}"]}}]', mesh=ALIASED)
    assert result.found == []
    rule = result.mesh.policies.authorization[0].rules[0].predicate
    known = ("new-td", "old-td", "elsewhere", "td2", "stranger")
    assert {name for name in known if holds(rule, Facts(peer=f"spiffe://{name}/ns/shop/sa/orders"))} == domains


def placed(value: str, spec: str) -> Applied:
    text = (
        "apiVersion: security.istio.io/v1beta1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\n  namespace: shop\n"
        f'  annotations:\n    isthmus.dev/custom-after-authentication: "{value}"\nspec: {spec}\n'
    )
    return applied(KIND, text, OPA)


@pytest.mark.parametrize(("value", "after"), [("true", True), ("false", False)])
def test_an_annotation_moves_custom_behind_authentication(value: str, after: bool) -> None:
    result = placed(value, "{action: CUSTOM, provider: {name: opa-http}, rules: [{}]}")
    assert result.found == []
    assert result.mesh.policies.authorization[0].after_authentication is after


@pytest.mark.parametrize(
    ("value", "spec", "problem"),
    [
        ("yes", "{action: CUSTOM, provider: {name: opa-http}, rules: [{}]}", 'it is "true" or "false", not "yes"'),
        ("true", "{action: DENY, rules: [{}]}", "only CUSTOM asks anybody"),
    ],
)
def test_elsewhere_it_means_nothing(value: str, spec: str, problem: str) -> None:
    result = placed(value, spec)
    assert len(result.found) == 1
    assert "error ISM2380" in result.found[0]
    assert problem in result.found[0]
    assert result.mesh.policies.authorization[0].after_authentication is False


def test_not_behind_access_control_where_the_provider_leads_to_another_route() -> None:
    (provider,) = OPA.settings.ext_authz
    mesh = replace(OPA, settings=Settings(ext_authz=(replace(provider, clear_route_cache=True),)))
    text = (
        "apiVersion: security.istio.io/v1beta1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\n  namespace: shop\n"
        '  annotations:\n    isthmus.dev/custom-after-authentication: "true"\n'
        "spec: {action: CUSTOM, provider: {name: opa-http}, rules: [{}]}\n"
    )
    result = applied(KIND, text, mesh)
    assert "clearRouteCache" in result.found[0]
    assert result.mesh.policies.authorization[0].after_authentication is False
