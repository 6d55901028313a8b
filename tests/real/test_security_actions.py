"""The actions of an AuthorizationPolicy, whom a policy speaks of, dry runs, and what the access log says of it all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.fields_peer import Answer, Ask, Issuer, inbound, logged, send
from tests.real.manifests import service
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

SELECTOR = "AuthorizationPolicy.spec.selector.matchLabels"
ACTION = "AuthorizationPolicy.spec.action"
WORKLOADS = {"orders": "shop", "users": "shop", "ledger": "bank", "vault": "closed"}
GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: shop}
spec:
  hosts: [orders.example.com]
  gateways: [edge]
  http: [{name: to-orders, route: [{destination: {host: orders}}]}]
"""


def workload(name: str, namespace: str, port: int) -> str:
    return f"""\
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  labels: {{app: {name}, tier: back}}
  serviceAccount: {name}
  ports: [{{name: http, number: 8080, listen: {port}}}, {{name: tcp, number: 9000, listen: {port}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}-raw, namespace: {namespace}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: tcp, port: 9000}}]
"""


def policy(name: str, namespace: str, action: str | None, labels: dict[str, str] | None = None, **more: Any) -> str:
    """A policy; ``path`` (and ``port``) as its only rule, or ``rules``; ``dry_run`` as the annotation."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if "dry_run" in more:
        metadata["annotations"] = {"istio.io/dry-run": more["dry_run"]}
    spec: dict[str, Any] = {} if action is None else {"action": action}
    if labels is not None:
        spec["selector"] = {"matchLabels": labels}
    rules = more.get("rules")
    if "path" in more:
        # Without its port, a DENY of a path would also close the port that is plain TCP.
        rules = [{"to": [{"operation": {"paths": [more["path"]], "ports": [more.get("port", "8080")]}}]}]
    if rules is not None:
        spec["rules"] = rules
    return json.dumps(
        {
            "apiVersion": "security.istio.io/v1beta1",
            "kind": "AuthorizationPolicy",
            "metadata": metadata,
            "spec": spec,
        }
    )


_ORDERS = {"app": "orders"}
_USERS = {"app": "users"}
POLICIES = (
    policy("everywhere", "istio-system", "DENY", path="/root"),
    policy("backs", "istio-system", "DENY", {"tier": "back"}, path="/root-back"),
    policy("shop", "shop", "DENY", path="/shop"),
    policy("orders", "shop", "DENY", _ORDERS, path="/orders/no"),
    policy("both-labels", "shop", "DENY", {"app": "orders", "tier": "front"}, path="/orders/yes"),
    policy("orders-in", "shop", "ALLOW", _ORDERS, path="/orders/*"),
    policy("orders-in-too", "shop", None, _ORDERS, path="/more"),
    policy("users-marked", "shop", "AUDIT", _USERS, path="/audited"),
    policy("users-maybe", "shop", "DENY", _USERS, path="/would-not", dry_run="true"),
    policy("users-perhaps", "shop", "ALLOW", _USERS, path="/would", dry_run="true"),
    policy("users-really", "shop", "DENY", _USERS, path="/really-not", dry_run="false"),
    policy("nobody", "closed", None),
    policy("edge", "shop", "DENY", {"istio": "edge"}, path="/edge", port="80"),
)


def on_raw(source: dict[str, list[str]] | None, **operation: list[str]) -> list[dict[str, Any]]:
    rule: dict[str, Any] = {"to": [{"operation": {"ports": ["9000"], **operation}}]}
    return [rule if source is None else {**rule, "from": [{"source": source}]}]


RAW = (
    policy("orders-raw", "shop", "ALLOW", _ORDERS, rules=on_raw({"principals": ["*/sa/web"]})),
    policy("users-raw", "shop", "DENY", _USERS, rules=on_raw({"notPrincipals": ["*/sa/web"]})),
    policy("ledger-raw", "bank", "DENY", rules=on_raw(None, methods=["POST"])),
)


@dataclass(frozen=True, slots=True)
class Mesh:
    up: Up
    web: Path
    other: Path

    def ask(self, workload: str, path: str) -> Answer:
        return send(inbound(self.up, workload, 8080), Ask(path, certificate=self.web))

    def raw(self, workload: str, certificate: Path) -> int:
        return send(inbound(self.up, workload, 9000), Ask(certificate=certificate, alpn=("istio",))).status

    def line(self, workload: str, answer: Answer) -> dict[str, Any]:
        return logged(self.up, f"sidecar~{WORKLOADS[workload]}~{workload}", answer)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("actions")
    with Backend() as backend:
        documents = [workload(name, namespace, backend.port) for name, namespace in WORKLOADS.items()]
        manifests = {
            "mesh.yaml": "---\n".join((*documents, GATEWAY, service("orders", "shop"))),
            **{f"policy-{index}.json": text for index, text in enumerate((*POLICIES, *RAW))},
        }
        with Up(folder, manifests) as up:
            issuer = Issuer.of(up, folder)
            web, other = (issuer.certificate(f"spiffe://cluster.local/ns/shop/sa/{name}") for name in ("web", "other"))
            yield Mesh(up, web, other)


@enforces(SELECTOR, ACTION)
@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/root", {"orders": 403, "users": 403, "ledger": 403}),
        ("/root-back", {"orders": 403, "users": 403, "ledger": 403}),
        ("/shop", {"users": 403, "ledger": 200}),
        ("/orders/no", {"orders": 403, "users": 200, "ledger": 200}),
        ("/orders/yes", {"orders": 200, "users": 200}),
        ("/more", {"orders": 200}),
        ("/else", {"orders": 403, "users": 200, "ledger": 200, "vault": 403}),
        ("/orders/root", {"orders": 200, "vault": 403}),
    ],
)
def test_whom_a_policy_speaks_of(mesh: Mesh, path: str, statuses: dict[str, int]) -> None:
    assert {name: mesh.ask(name, path).status for name in statuses} == statuses


@enforces(SELECTOR)
def test_a_gateway_is_selected_by_its_labels(mesh: Mesh) -> None:
    assert mesh.up.get("http://orders.example.com/edge").status_code == 403
    passed = mesh.up.get("http://orders.example.com/orders/1")
    assert passed.status_code == 200
    assert mesh.ask("users", "/edge").status == 200


def _verdict(name: str, namespace: str = "shop") -> str:
    return f"ns[{namespace}]-policy[{name}]-rule[0]"


@enforces(ACTION)
def test_allow_hit_in_the_access_log(mesh: Mesh) -> None:
    line = mesh.line("orders", mesh.ask("orders", "/orders/1"))
    assert (line["status"], line["allow_policy"], line["allow_result"]) == (200, _verdict("orders-in"), "allowed")
    assert line["deny_policy"] is None


@enforces(ACTION)
def test_deny_hit_in_the_access_log(mesh: Mesh) -> None:
    line = mesh.line("orders", mesh.ask("orders", "/orders/no"))
    assert (line["status"], line["deny_policy"]) == (403, _verdict("orders"))
    assert line["allow_policy"] is None, "DENY comes first: ALLOW was not asked"
    root = mesh.line("ledger", mesh.ask("ledger", "/root"))
    assert root["deny_policy"] == _verdict("everywhere", "istio-system")


@enforces(ACTION)
def test_allow_miss_names_who_could_have_allowed(mesh: Mesh) -> None:
    line = mesh.line("orders", mesh.ask("orders", "/else"))
    assert (line["status"], line["allow_policy"], line["allow_result"]) == (403, None, "denied")
    assert line["allow_policies"] == [_verdict("orders-in"), _verdict("orders-in-too")]
    closed = mesh.line("vault", mesh.ask("vault", "/"))
    assert (closed["status"], closed["allow_policies"]) == (403, [])


@enforces(ACTION)
def test_audit_marks_and_lets_pass(mesh: Mesh) -> None:
    marked = mesh.line("users", mesh.ask("users", "/audited"))
    assert (marked["status"], marked["audit_policy"]) == (200, _verdict("users-marked"))
    unmarked = mesh.line("users", mesh.ask("users", "/"))
    assert (unmarked["status"], unmarked["audit_policy"]) == (200, None)


def test_a_dry_run_lets_pass_and_says_what_it_would_have_done(mesh: Mesh) -> None:
    refused = mesh.line("users", mesh.ask("users", "/would-not"))
    assert refused["status"] == 200
    assert (refused["dry_run_deny_policy"], refused["dry_run_deny_result"]) == (_verdict("users-maybe"), "denied")
    assert (refused["dry_run_allow_policy"], refused["dry_run_allow_result"]) == (None, "denied")
    taken = mesh.line("users", mesh.ask("users", "/would"))
    assert (taken["dry_run_allow_policy"], taken["dry_run_allow_result"]) == (_verdict("users-perhaps"), "allowed")
    assert taken["dry_run_deny_policy"] is None
    assert mesh.ask("users", "/really-not").status == 403, "dry-run: false is none"


def test_identities_and_route_in_the_access_logs_of_both_hops(mesh: Mesh) -> None:
    request = {"x-request-id": "spoofed", "x-forwarded-client-cert": "URI=spiffe://cluster.local/ns/shop/sa/web"}
    answer = mesh.up.get("http://orders.example.com/orders/hops", headers=request)
    seen = dict(answer.json()["headers"])
    gateway, orders = "spiffe://cluster.local/ns/shop/sa/edge", "spiffe://cluster.local/ns/shop/sa/orders"

    def line(proxy: str) -> dict[str, Any]:
        found: dict[str, Any] = eventually(
            lambda: next((one for one in mesh.up.access_log(proxy) if one["request_id"] == seen["x-request-id"]), None)
        )
        return found

    at_edge, at_orders = line("gateway~shop~edge"), line("sidecar~shop~orders")
    assert (at_edge["self"], at_edge["peer"], at_edge["upstream_peer"]) == (gateway, None, orders)
    assert (at_edge["hop"], at_edge["route"], at_edge["status"]) == ("gateway", "to-orders", 200)
    assert (at_orders["self"], at_orders["peer"], at_orders["hop"]) == (orders, gateway, "inbound")
    assert seen["x-request-id"] != "spoofed"


def _connections(mesh: Mesh, workload: str) -> Callable[[], list[dict[str, Any]]]:
    log = f"sidecar~{WORKLOADS[workload]}~{workload}"
    return lambda: [line for line in mesh.up.access_log(log) if "method" not in line]


@enforces(ACTION)
def test_plain_tcp_is_decided_by_who_connects(mesh: Mesh) -> None:
    """ALLOW and DENY on a port that is no HTTP, and the verdict in its log."""
    assert (mesh.raw("orders", mesh.web), mesh.raw("orders", mesh.other)) == (200, 0)
    assert (mesh.raw("users", mesh.web), mesh.raw("users", mesh.other)) == (200, 0)
    hit, miss = eventually(lambda: (found := _connections(mesh, "orders")())[1:] and found)[:2]
    assert (hit["allow_policy"], hit["allow_result"]) == (_verdict("orders-raw"), "allowed")
    assert (miss["allow_policy"], miss["allow_result"]) == (None, "denied")
    assert miss["allow_policies"] == [_verdict("orders-raw")]
    _, denied = eventually(lambda: (found := _connections(mesh, "users")())[1:] and found)[:2]
    assert denied["deny_policy"] == _verdict("users-raw")


def test_a_deny_of_http_means_every_tcp_connection(mesh: Mesh) -> None:
    assert mesh.ask("ledger", "/").status == 200, "the rule names the other port"
    assert mesh.raw("ledger", mesh.web) == 0
