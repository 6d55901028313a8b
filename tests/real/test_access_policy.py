"""AccessPolicies on real Envoys: at a sidecar, where token and workload stand in one rule, and at routes."""

from __future__ import annotations

import json
import socket
import ssl
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.fields_peer import MESH_ALPN, Answer, Ask, Issuer, bearer, inbound, send
from tests.real.log import logged
from tests.real.manifests import service
from tests.real.up import Up, development_jwks, eventually

pytestmark = pytest.mark.real

RULE = "AccessPolicy.spec.rules[]."
TARGET = "AccessPolicy.spec.targetRefs[]."
ISSUER, OTHER = "https://auth.example.com", "https://partner.example.com"
HOST = "shop.example.com"

MESH = """\
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {{name: orders, namespace: shop}}
spec:
  labels: {{app: orders}}
  ports: [{{name: http, number: 8080, listen: {port}}}, {{name: tcp, number: 9000, listen: {port}}}]
---
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {{name: free, namespace: shop}}
spec:
  labels: {{app: free}}
  ports: [{{name: http, number: 8080, listen: {port}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  selector: {{istio: edge}}
  servers:
    - {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}
    - {{port: {{number: 81, name: second, protocol: HTTP}}, hosts: ["*"]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop, namespace: shop}}
spec:
  hosts: [shop.example.com]
  gateways: [edge]
  http:
    - name: users
      match: [{{uri: {{prefix: /users}}}}]
      route: [{{destination: {{host: free}}}}]
    - name: approvals
      match: [{{uri: {{prefix: /approvals}}}}]
      route: [{{destination: {{host: free}}}}]
    - name: rest
      route: [{{destination: {{host: free}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: open, namespace: shop}}
spec:
  hosts: [open.example.com]
  gateways: [edge]
  http: [{{route: [{{destination: {{host: free}}}}]}}]
---
"""


def document(kind: str, name: str, spec: Any, group: str = "isthmus.dev/v1alpha1") -> str:
    metadata = {"name": name, "namespace": "shop"}
    return json.dumps({"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec})


def tokens(jwks: str, app: str) -> str:
    # The sidecar verifies what the gateway verified: the token goes on.
    rules = [{"issuer": one, "jwks": jwks, "forwardOriginalToken": True} for one in (ISSUER, OTHER)]
    spec = {"selector": {"matchLabels": {"app": app}}, "jwtRules": rules}
    return document("RequestAuthentication", app, spec, "security.istio.io/v1")


def edge_tokens(jwks: str) -> str:
    spec = {
        "selector": {"matchLabels": {"istio": "edge"}},
        "jwtRules": [{"issuer": ISSUER, "jwks": jwks, "forwardOriginalToken": True}],
    }
    return document("RequestAuthentication", "edge", spec, "security.istio.io/v1")


AT_SIDECAR = {
    "selector": {"matchLabels": {"app": "orders"}},
    "rules": [
        {"name": "methods", "paths": ["/methods"], "methods": ["GET", "PU*"]},
        {"name": "principals", "paths": ["/principals"], "principals": ["cluster.local/ns/shop/sa/frontend"]},
        {"name": "accounts", "paths": ["/accounts"], "serviceAccounts": ["frontend"]},
        {"name": "namespaces", "paths": ["/namespaces"], "namespaces": ["shop"]},
        {"name": "groups", "paths": ["/groups"], "groups": ["staff", "board"], "issuers": [ISSUER]},
        {"name": "whose", "paths": ["/whose"], "groups": ["staff"]},
        {"name": "whose-when", "paths": ["/whose-when"], "when": "'staff' in groups"},
        {"name": "said-when", "paths": ["/said-when"], "when": f"claims.iss == '{ISSUER}' && 'staff' in groups"},
        {"name": "hosts", "paths": ["/hosts"], "hosts": ["orders.example.com", "*.shop.example.com"]},
        {"name": "host", "paths": ["/host"], "when": "host == 'orders.example.com'"},
        {"name": "ports", "paths": ["/ports"], "ports": [8080]},
        {"name": "other-ports", "paths": ["/other-ports"], "ports": [80, 9000]},
        {"name": "issuers", "paths": ["/issuers"], "issuers": [OTHER]},
        {"name": "scopes", "paths": ["/scopes"], "scopes": ["orders:read", "orders:write"]},
        {
            # Claims and workload identity in one rule: only the frontend, and only for a user who may write.
            "name": "write",
            "methods": ["POST"],
            "paths": ["/orders"],
            "serviceAccounts": ["shop/frontend"],
            "scopes": ["orders:write"],
        },
        {
            "name": "when",
            "paths": ["/when"],
            "when": "source.serviceAccount == 'frontend' && source.namespace == 'shop' && 'orders:write' in scopes",
        },
        {"name": "hours", "paths": ["/hours"], "when": "now.getHours('Europe/Berlin') < 24 && claims.sub == 'alice'"},
        {"name": "never", "paths": ["/never"], "when": "now < timestamp('2020-01-01T00:00:00Z')"},
        {"name": "header", "paths": ["/header"], "when": "headers['x-tier'] != 'free'"},
        {"name": "absent", "paths": ["/absent"], "when": "!has(claims.blocked) || claims.blocked == false"},
        *({"name": f"many-{n}", "paths": ["/many"], "groups": [f"g{n}"], "issuers": [ISSUER]} for n in range(80)),
        {"name": "wild", "paths": ["/wild/*", "/any/{*}/tail", "/rest/{**}"]},
    ],
}
OWN_ORDERS = {
    "targetRefs": [
        {"group": "networking.istio.io", "kind": "VirtualService", "name": "shop", "sectionName": "users"},
    ],
    "rules": [
        {
            "name": "own-orders",
            "methods": ["GET"],
            "paths": ["/users/{user}/orders", "/users/{user}/orders/{id}"],
            "when": "claims.sub == params.user",
        },
    ],
}
APPROVALS = {
    "targetRefs": [{"kind": "VirtualService", "name": "shop", "sectionName": "approvals"}],
    "rules": [
        {
            "name": "by-query",
            "methods": ["POST"],
            "paths": ["/approvals/query"],
            "when": "'manager' in claims.roles && int(query.amount) <= 10000 && int(query.amount) >= 0",
        },
        {
            "name": "by-header",
            "methods": ["POST"],
            "paths": ["/approvals/header"],
            "when": "'manager' in claims.roles && int(headers['x-amount']) <= 10000",
        },
        {
            "name": "optional",
            "methods": ["GET"],
            "paths": ["/approvals/optional"],
            "when": "!has(query.limit) || int(query.limit) <= 100",
        },
    ],
}
SECOND = {
    "targetRefs": [{"kind": "Gateway", "name": "edge", "sectionName": "second"}],
    "rules": [{"methods": ["GET"], "scopes": ["second"]}],
}


@dataclass(frozen=True, slots=True)
class Mesh:
    up: Up
    frontend: Path
    batch: Path
    backend: Backend
    made: dict[str, str] = field(default_factory=dict)

    def token(self, subject: str = "alice", issuer: str = ISSUER, **claims: Any) -> str:
        key = json.dumps([subject, issuer, claims], sort_keys=True)
        if key not in self.made:
            self.made[key] = bearer(self.up, issuer, subject, **claims)
        return self.made[key]

    def inside(self, path: str, token: str | None = None, *, method: str = "GET", peer: Path | None = None) -> Answer:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        ask = Ask(path, method, headers, certificate=peer or self.frontend)
        return send(inbound(self.up, "orders", 8080), ask)

    def outside(
        self,
        path: str,
        token: str | None = None,
        *,
        method: str = "GET",
        port: int = 80,
        host: str = HOST,
        **headers: str,
    ) -> Answer:
        given = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if token is not None:
            given["authorization"] = f"Bearer {token}"
        address, number = self.up.gateway(port)
        # A gateway gives its own request ids.
        trace = f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"
        answer = send(f"{address}:{number}", Ask(path, method, {**given, "traceparent": trace}))
        return replace(answer, request_id=trace)

    def reason(self, answer: Answer, proxy: str = "edge") -> str | None:
        kind, key = ("gateway", "trace_parent") if proxy == "edge" else ("sidecar", "request_id")
        reason: str | None = logged(self.up, f"{kind}~shop~{proxy}", **{key: answer.request_id})["reason"]
        return reason


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("access")
    jwks = development_jwks(folder / "state", folder / "jwks.json").read_text()
    with Backend() as backend:
        manifests = {
            "mesh.yaml": "---\n".join(
                (MESH.format(port=backend.port) + service("free", "shop"), service("orders", "shop", 9000, "tcp"))
            ),
            "tokens.json": tokens(jwks, "orders"),
            "edge-tokens.json": edge_tokens(jwks),
            "sidecar.json": document("AccessPolicy", "orders", AT_SIDECAR),
            "own.json": document("AccessPolicy", "own-orders", OWN_ORDERS),
            "approvals.json": document("AccessPolicy", "approvals", APPROVALS),
            "second.json": document("AccessPolicy", "second", SECOND),
        }
        with Up(folder, manifests) as up:
            issuer = Issuer.of(up, folder)
            frontend = issuer.certificate("spiffe://cluster.local/ns/shop/sa/frontend")
            yield Mesh(up, frontend, issuer.certificate("spiffe://cluster.local/ns/bank/sa/batch"), backend)


def statuses(mesh: Mesh, path: str, *asked: dict[str, Any]) -> list[int]:
    return [mesh.inside(path, **one).status for one in asked]


@enforces(f"{RULE}methods", f"{RULE}paths", f"{RULE}name")
def test_methods_paths_and_the_name_in_the_log(mesh: Mesh) -> None:
    asked = [mesh.inside("/methods", method=method) for method in ("GET", "PUT", "POST")]
    assert [one.status for one in asked] == [200, 200, 403]
    assert mesh.reason(asked[2], "orders") == "no-rule"
    line = logged(mesh.up, "sidecar~shop~orders", request_id=asked[0].request_id)
    assert (line["access_rule"], line["reason"]) == ("ns[shop]-policy[orders]-rule[methods]", None)
    refused = mesh.inside("/elsewhere")
    assert (refused.status, mesh.reason(refused, "orders")) == (403, "no-rule")
    paths = ("/wild/a", "/wild/a/b", "/any/a/tail", "/any/a/b/tail", "/any//tail", "/rest/", "/rest/a/b", "/rest")
    assert [mesh.inside(path).status for path in paths] == [200, 200, 200, 403, 403, 200, 200, 403]


@enforces(f"{RULE}principals", f"{RULE}serviceAccounts", f"{RULE}namespaces")
@pytest.mark.parametrize("path", ["/principals", "/accounts", "/namespaces"])
def test_workloads(mesh: Mesh, path: str) -> None:
    assert mesh.inside(path).status == 200
    refused = mesh.inside(path, mesh.token(), peer=mesh.batch)
    assert (refused.status, mesh.reason(refused, "orders")) == (403, "peer-not-allowed")


@enforces(f"{RULE}scopes", f"{RULE}groups", f"{RULE}issuers")
@pytest.mark.parametrize(
    ("path", "good", "bad", "reason"),
    [
        ("/scopes", {"scope": "orders:read a orders:write"}, {"scope": "orders:read"}, "scope-missing"),
        (
            "/scopes",
            {"scope": ["orders:write", "orders:read"]},
            {"scope": "orders:read orders:writer"},
            "scope-missing",
        ),
        ("/groups", {"groups": ["board"]}, {"groups": ["board-2", "staffing"]}, "group-missing"),
        ("/groups", {"groups": "staff"}, {}, "group-missing"),
        ("/issuers", {"issuer": OTHER}, {}, "client-not-allowed"),
    ],
)
def test_claims(mesh: Mesh, path: str, good: dict[str, Any], bad: dict[str, Any], reason: str) -> None:
    assert mesh.inside(path, mesh.token(**good)).status == 200
    refused, nobody = mesh.inside(path, mesh.token(**bad)), mesh.inside(path)
    assert (refused.status, mesh.reason(refused, "orders")) == (403, reason)
    assert (nobody.status, mesh.reason(nobody, "orders")) == (401, "not-authenticated")
    assert nobody.headers["www-authenticate"] == "Bearer"


def test_groups_are_those_of_the_issuer_that_the_rule_means(mesh: Mesh) -> None:
    staff, others = mesh.token(groups=["staff"]), mesh.token(issuer=OTHER, groups=["staff"])
    asked = {path: (mesh.inside(path, staff), mesh.inside(path, others)) for path in ("/groups", "/said-when")}
    assert [[one.status for one in each] for each in asked.values()] == [[200, 403]] * 2
    reasons = [mesh.reason(refused, "orders") for _, refused in asked.values()]
    assert reasons == ["client-not-allowed", "condition-not-met"]
    # Of two issuers the rule says neither: the claim is nobody's.
    for path, reason in (("/whose", "group-missing"), ("/whose-when", "condition-not-met")):
        refused = mesh.inside(path, staff)
        assert (refused.status, mesh.reason(refused, "orders")) == (403, reason)
    assert "ISM5140" in mesh.up.output


def test_many_rules_about_the_same_are_explained(mesh: Mesh) -> None:
    assert mesh.inside("/many", mesh.token(groups=["g79"])).status == 200
    cases = [
        (mesh.inside("/many"), 401, "not-authenticated"),
        (mesh.inside("/many", mesh.token()), 403, "group-missing"),
    ]
    assert [(one.status, mesh.reason(one, "orders")) for one, _, _ in cases] == [case[1:] for case in cases]


@enforces(f"{RULE}hosts", f"{RULE}ports")
def test_hosts_and_ports(mesh: Mesh) -> None:
    def ask(path: str, host: str) -> int:
        return send(
            inbound(mesh.up, "orders", 8080), Ask(path, headers={"host": host}, certificate=mesh.frontend)
        ).status

    good = ("orders.example.com", "Orders.Example.com:8080", "a.shop.example.com", "a.b.shop.example.com:1")
    bad = (
        "example.com",
        "shop.example.com",
        "xorders.example.com",
        "orders.example.com.evil",
        "a.example.com:.shop.example.com",
    )
    assert [ask("/hosts", host) for host in (*good, *bad)] == [200] * len(good) + [403] * len(bad)
    assert [ask("/host", host) for host in ("ORDERS.example.com:80", "a.shop.example.com")] == [200, 403]
    refused = mesh.inside("/other-ports")
    assert (mesh.inside("/ports").status, refused.status, mesh.reason(refused, "orders")) == (200, 403, "no-rule")


@enforces("AccessPolicy.spec.selector.matchLabels")
def test_only_the_frontend_and_only_for_a_user_with_the_scope(mesh: Mesh) -> None:
    writer, reader = mesh.token(scope="orders:write"), mesh.token(scope="orders:read")
    cases = [
        (mesh.inside("/orders", writer, method="POST"), 200, None),
        (mesh.inside("/orders", reader, method="POST"), 403, "scope-missing"),
        (mesh.inside("/orders", writer, method="POST", peer=mesh.batch), 403, "peer-not-allowed"),
        (mesh.inside("/orders", method="POST"), 401, "not-authenticated"),
        (mesh.inside("/orders", writer), 403, "no-rule"),
    ]
    assert [(one.status, mesh.reason(one, "orders")) for one, _, _ in cases] == [case[1:] for case in cases]
    # A workload that the selector does not name: nobody is asked.
    anybody = send(inbound(mesh.up, "free", 8080), Ask("/orders", "POST", certificate=mesh.batch))
    assert anybody.status == 200


@enforces(f"{RULE}when")
def test_conditions_over_claims_workload_and_time(mesh: Mesh) -> None:
    writer = mesh.token(scope="orders:write")
    assert mesh.inside("/when", writer).status == 200
    refused = [mesh.inside("/when", mesh.token(scope="orders:read")), mesh.inside("/when", writer, peer=mesh.batch)]
    assert [(one.status, mesh.reason(one, "orders")) for one in refused] == [(403, "condition-not-met")] * 2
    assert [mesh.inside("/hours", mesh.token(name)).status for name in ("alice", "bob")] == [200, 403]
    assert mesh.inside("/never").status == 403
    # A claim that is not there is an error where it is compared, and an error is never true.
    claims: list[dict[str, Any]] = [{}, {"blocked": False}, {"blocked": True}, {"blocked": "no"}]
    assert [mesh.inside("/absent", mesh.token(**one)).status for one in claims] == [200, 200, 403, 403]
    assert mesh.inside("/absent").status == 401, "no token, no claims"


def test_a_header_that_is_sent_twice_is_not_believed(mesh: Mesh) -> None:
    def ask(*values: str) -> int:
        lines = "".join(f"x-tier: {value}\r\n" for value in values)
        request = f"GET /header HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lines}\r\n"
        return status_of(mesh, request)

    assert [ask("gold"), ask("free"), ask("free", "free"), ask("gold", "free"), ask()] == [200, 403, 403, 403, 403]


def status_of(mesh: Mesh, request: str) -> int:
    """Of raw HTTP, sent to the sidecar by the frontend."""
    host, _, port = inbound(mesh.up, "orders", 8080).rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(list(MESH_ALPN))
    context.load_cert_chain(mesh.frontend)
    with socket.create_connection((host, int(port)), 10) as plain, context.wrap_socket(plain) as secured:
        secured.sendall(request.encode())
        return int(secured.recv(65536).split(b" ", 2)[1])


@enforces(f"{TARGET}kind", f"{TARGET}group", f"{TARGET}name")
def test_a_user_reads_only_his_own_orders(mesh: Mesh) -> None:
    alice, bob = mesh.token("alice"), mesh.token("bob")
    for path in ("/users/alice/orders", "/users/alice/orders/7", "/users/alice/orders?page=2"):
        assert mesh.outside(path, alice).status == 200
        refused = mesh.outside(path, bob)
        assert (refused.status, mesh.reason(refused)) == (403, "condition-not-met")
    nobody = mesh.outside("/users/alice/orders")
    assert (nobody.status, mesh.reason(nobody)) == (401, "not-authenticated")
    for refused in (mesh.outside("/users/alice", alice), mesh.outside("/users/alice/orders", alice, method="DELETE")):
        assert (refused.status, mesh.reason(refused)) == (403, "no-rule")


@pytest.mark.parametrize(
    "path",
    [
        "/users/bob/../alice/orders",
        "/users/bob/%2e%2e/alice/orders",
        "/users/bob/%2e%2e;/alice/orders",
        "/users/bob/..;/alice/orders",
        "/users/bob;/../alice/orders",
        "/users/bob/orders/../../alice/orders",
        "/users/bob/orders/..%2f..%2falice/orders",
        "/users/bob/orders/%252e%252e",
        "/users/alice;x=bob/orders",
        "/users/bob%2f..%2falice/orders",
        "/users/bob%00/orders",
        "/users/alice/orders?user=bob",
        "/users/alice%3bbob/orders",
        "/users//orders",
        "/users/./orders",
        "/users/alice/orders#/users/bob/orders",
        "/users\\bob\\..\\alice\\orders",
    ],
)
def test_bob_reaches_nothing_of_alices_by_another_spelling(mesh: Mesh, path: str) -> None:
    before = len(mesh.backend.seen)
    assert mesh.outside(path, mesh.token("bob")).status in (0, 307, 400, 403, 404)
    assert len(mesh.backend.seen) == before


@enforces(f"{TARGET}sectionName")
def test_a_route_and_a_server_of_a_gateway_have_rules_of_their_own(mesh: Mesh) -> None:
    assert mesh.outside("/users/alice/orders").status == 401
    assert mesh.outside("/other").status == 200, "a route that no policy names"
    assert mesh.outside("/users/alice/orders", host="open.example.com").status == 200
    # The other port of the gateway: its server's policy, where no route's is more specific.
    scoped = mesh.token(scope="second")
    assert [mesh.outside("/other", one, port=81).status for one in (scoped, mesh.token())] == [200, 403]
    assert [mesh.outside("/users/alice/orders", one, port=81).status for one in (scoped, mesh.token("bob"))] == [
        200,
        403,
    ]


def test_a_manager_approves_up_to_ten_thousand(mesh: Mesh) -> None:
    manager, clerk = mesh.token(roles=["clerk", "manager"]), mesh.token(roles=["clerk"])
    queries = {"amount=10000": 200, "a=1&amount=5&b=2": 200, "amount=10001": 403, "amount=x": 403, "": 403}
    for query, status in queries.items():
        assert mesh.outside(f"/approvals/query?{query}", manager, method="POST").status == status, query
    amounts = {"10000": 200, "10001": 403, "ten": 403, "5,99999": 403, "1e3": 403}
    for amount, status in amounts.items():
        answer = mesh.outside("/approvals/header", manager, method="POST", x_amount=amount)
        assert answer.status == status, amount
    refused = mesh.outside("/approvals/query?amount=5", clerk, method="POST")
    assert (refused.status, mesh.reason(refused)) == (403, "condition-not-met")


@pytest.mark.parametrize(
    "query",
    [
        "amount=1&amount=99999",
        "amount=99999&amount=1",
        "amount=1&%61mount=99999",
        "%61mount=99999&amount=1",
        "amount=1&Amount=99999",
        "AMOUNT=99999",
        "amount=1&amount[]=99999",
        "amount[]=99999",
        "amount=1;amount=99999",
        "amount=1&b=2;amount=99999",
        "amount=%39%39999",
        "amount=1%26amount=99999",
        "amount=1+99999",
        "amount&amount=1",
        "amount",
        "amount=",
        "a?amount=1&amount=99999",
    ],
)
def test_a_query_that_others_may_read_otherwise_is_refused(mesh: Mesh, query: str) -> None:
    manager = mesh.token(roles=["manager"])
    answer = mesh.outside(f"/approvals/query?{query}", manager, method="POST")
    assert (answer.status, mesh.reason(answer)) == (403, "condition-not-met")


def test_a_query_parameter_that_need_not_be_there(mesh: Mesh) -> None:
    queries = {"": 200, "?": 200, "?limit=100": 200, "?limit=101": 403, "?LIMIT=101": 403, "?limit[]=101": 403}
    queries |= {"?other=5": 200, "?li%6dit=101": 403, "?limit=100&limit=101": 403, "?unlimit=101": 200, "?limit=": 403}
    for query, status in queries.items():
        assert mesh.outside(f"/approvals/optional{query}").status == status, query


def test_a_port_of_plain_tcp_is_closed(mesh: Mesh) -> None:
    answer = send(inbound(mesh.up, "orders", 9000), Ask("/methods", certificate=mesh.frontend, alpn=("istio",)))
    assert answer.status == 0
    logged(mesh.up, "sidecar~shop~orders", reason="access-needs-http")


def test_the_token_goes_from_the_gateway_to_the_sidecar(mesh: Mesh) -> None:
    answer = mesh.outside("/users/alice/orders", mesh.token("alice"))
    assert answer.seen("authorization") == f"Bearer {mesh.token('alice')}"


def test_a_changed_policy_holds_for_the_next_request(mesh: Mesh) -> None:
    changed = json.loads(json.dumps(AT_SIDECAR))
    changed["rules"].append({"name": "new", "paths": ["/new"]})
    assert mesh.inside("/new").status == 403
    mesh.up.write("sidecar.json", document("AccessPolicy", "orders", changed))
    eventually(lambda: mesh.inside("/new").status == 200)
    broken = {"selector": AT_SIDECAR["selector"], "rules": [{"when": "claims.sub == user"}]}
    mesh.up.write("sidecar.json", document("AccessPolicy", "orders", broken))
    eventually(lambda: "ISM2350" in mesh.up.output)
    assert mesh.inside("/new").status == 200, "the last good version stays"
    mesh.up.write("sidecar.json", document("AccessPolicy", "orders", AT_SIDECAR))
    eventually(lambda: mesh.inside("/new").status == 403)
