"""CUSTOM with ext_authz providers of the mesh configuration, over HTTP and gRPC: every option, on real Envoys."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.fields_authz import GrpcAuthz, HttpAuthz, mesh_config
from tests.real.fields_peer import Answer, Ask, Issuer, inbound, logged, send
from tests.real.manifests import service
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

PROVIDERS = "ConfigMap.data.mesh.extensionProviders[]."
HTTP = PROVIDERS + "envoyExtAuthzHttp."
GRPC = PROVIDERS + "envoyExtAuthzGrpc."
HTTP_PORT, GRPC_PORT, DEAD_PORT = 9000, 9001, 9009
_BODY = {"maxRequestBytes": 8}
_PARTIAL = {"maxRequestBytes": 8, "allowPartialMessage": True}

ON_HTTP: dict[str, dict[str, Any]] = {
    "plain": {},
    "rich": {
        "service": "mesh-root/authz.internal",
        "pathPrefix": "/check",
        "includeRequestHeadersInCheck": ["x-ask-*", "Cookie"],
        "includeHeadersInCheck": ["x-old"],
        "includeAdditionalHeadersInCheck": {"x-static": "fixed"},
        "headersToUpstreamOnAllow": ["x-user"],
        "headersToDownstreamOnDeny": ["x-why"],
        "headersToDownstreamOnAllow": ["x-seen"],
    },
    "body": {"includeRequestBodyInCheck": _BODY},
    "partial": {"includeRequestBodyInCheck": _PARTIAL},
    "hasty": {"timeout": "0.2s", "statusOnError": "504"},
    "dead": {"port": DEAD_PORT},
    "dead-503": {"port": DEAD_PORT, "statusOnError": "503"},
    "dead-open": {"port": DEAD_PORT, "failOpen": True},
    "routing": {"headersToUpstreamOnAllow": ["x-route"], "clearRouteCache": True},
    "routing-not": {"headersToUpstreamOnAllow": ["x-route"]},
}
ON_GRPC: dict[str, dict[str, Any]] = {
    "plain": {},
    "body": {"includeRequestBodyInCheck": _BODY},
    "partial": {"includeRequestBodyInCheck": _PARTIAL},
    "bytes": {"includeRequestBodyInCheck": {**_BODY, "packAsBytes": True}},
    "hasty": {"timeout": "0.2s", "statusOnError": "504"},
    "dead": {"port": DEAD_PORT},
    "dead-503": {"port": DEAD_PORT, "statusOnError": "503"},
    "dead-open": {"port": DEAD_PORT, "failOpen": True},
    "routing": {"clearRouteCache": True},
    "routing-not": {},
}


def providers() -> list[dict[str, Any]]:
    where = {"service": "authz.internal"}
    http = [
        {"name": f"http-{name}", "envoyExtAuthzHttp": {**where, "port": HTTP_PORT, **options}}
        for name, options in ON_HTTP.items()
    ]
    return http + [
        {"name": f"grpc-{name}", "envoyExtAuthzGrpc": {**where, "port": GRPC_PORT, **options}}
        for name, options in ON_GRPC.items()
    ]


def custom(provider: str) -> dict[str, Any]:
    """A policy that asks ``provider`` about its own path: at the gateway where it is about routing."""
    at_gateway = "routing" in provider
    spec = {
        "selector": {"matchLabels": {"istio": "edge"} if at_gateway else {"app": "app"}},
        "action": "CUSTOM",
        "provider": {"name": provider},
        "rules": [{"to": [{"operation": {"paths": [f"/{provider}/*"]}}]}],
    }
    return authorization(f"ask-{provider}", spec)


def authorization(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop"}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": metadata,
        "spec": spec,
    }


def denied(name: str, operation: dict[str, Any], *conditions: dict[str, Any]) -> dict[str, Any]:
    rule: dict[str, Any] = {"to": [{"operation": operation}]}
    if conditions:
        rule["when"] = list(conditions)
    return authorization(name, {"selector": {"matchLabels": {"app": "app"}}, "action": "DENY", "rules": [rule]})


_METADATA = "experimental.envoy.filters.http.ext_authz"
POLICIES = [
    *(custom(provider["name"]) for provider in providers()),
    custom("nobody"),
    authorization(
        "ask-raw",
        {
            "selector": {"matchLabels": {"app": "raw"}},
            "action": "CUSTOM",
            "provider": {"name": "http-plain"},
            "rules": [{"to": [{"operation": {"ports": ["9000"]}}]}],
        },
    ),
    denied("after-all", {"paths": ["/http-plain/forbidden"]}),
    denied("silver", {"paths": ["/grpc-plain/one/*"]}, {"key": f"{_METADATA}[tier]", "values": ["silver"]}),
    denied("spoofed", {"paths": ["/grpc-plain/one/*"]}, {"key": f"{_METADATA}[consumer]", "values": ["*"]}),
    denied("joined", {"paths": ["/grpc-plain/list/*"]}, {"key": f"{_METADATA}[groups]", "values": ["[bosses]"]}),
    denied("silvers", {"paths": ["/grpc-plain/list/*"]}, {"key": f"{_METADATA}[tiers]", "values": ["[silver]"]}),
]
MESH = """\
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {{name: app, namespace: shop}}
spec:
  labels: {{app: app}}
  ports: [{{name: http, number: 8080, listen: {app}}}]
---
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {{name: raw, namespace: shop}}
spec:
  labels: {{app: raw}}
  ports: [{{name: tcp, number: 9000, listen: {app}}}, {{name: tcp-free, number: 9001, listen: {app}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: raw, namespace: shop}}
spec:
  selector: {{app: raw}}
  ports: [{{name: tcp, port: 9000}}, {{name: tcp-free, port: 9001}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: authz, namespace: istio-system}}
spec:
  hosts: [authz.internal]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports:
    - {{number: 9000, name: web, protocol: HTTP}}
    - {{number: 9001, name: grpc, protocol: GRPC}}
    - {{number: 9009, name: dead, protocol: HTTP}}
  endpoints: [{{address: 127.0.0.1, ports: {{web: {web}, grpc: {grpc}, dead: {dead}}}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  selector: {{istio: edge}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: app, namespace: shop}}
spec:
  hosts: [app.example.com]
  gateways: [edge]
  http:
    - match: [{{headers: {{x-route: {{exact: blue}}}}}}]
      headers: {{response: {{set: {{x-taken: blue}}}}}}
      route: [{{destination: {{host: app}}}}]
    - headers: {{response: {{set: {{x-taken: default}}}}}}
      route: [{{destination: {{host: app}}}}]
---
"""


@dataclass(frozen=True, slots=True)
class Mesh:
    up: Up
    http: HttpAuthz
    grpc: GrpcAuthz
    web: Path

    def ask(self, path: str, **options: Any) -> Answer:
        return send(inbound(self.up, "app", 8080), Ask(path, certificate=self.web, **options))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("custom")
    with socket.socket() as unheard, Backend() as app, HttpAuthz() as http, GrpcAuthz() as grpc:
        unheard.bind(("127.0.0.1", 0))  # bound, never listening: refuses
        text = MESH.format(app=app.port, web=http.port, grpc=grpc.port, dead=unheard.getsockname()[1])
        manifests = {
            "mesh.yaml": text + service("app", "shop"),
            "config.json": mesh_config(extensionProviders=providers()),
            **{f"policy-{index}.json": json.dumps(policy) for index, policy in enumerate(POLICIES)},
        }
        with Up(folder, manifests) as up:
            yield Mesh(up, http, grpc, Issuer.of(up, folder).certificate("spiffe://cluster.local/ns/shop/sa/web"))


@pytest.fixture(autouse=True)
def _fresh(mesh: Mesh) -> None:
    mesh.http.asked.clear()
    mesh.grpc.asked.clear()


@enforces(
    "AuthorizationPolicy.spec.action",
    "AuthorizationPolicy.spec.provider.name",
    f"{PROVIDERS}name",
    f"{HTTP}service",
    f"{HTTP}port",
    f"{GRPC}service",
    f"{GRPC}port",
)
def test_the_provider_decides_on_what_the_rules_match(mesh: Mesh) -> None:
    assert mesh.ask("/other/deny").status == 200
    assert (mesh.http.asked, mesh.grpc.asked) == ([], [])
    assert mesh.ask("/http-plain/x").status == 200
    assert mesh.ask("/http-plain/deny").status == 401
    assert (len(mesh.http.asked), len(mesh.grpc.asked)) == (2, 0)
    assert mesh.ask("/grpc-plain/x").status == 200
    assert mesh.ask("/grpc-plain/deny").status == 401
    assert (len(mesh.http.asked), len(mesh.grpc.asked)) == (2, 2)


def test_a_provider_that_consents_is_not_the_last_word(mesh: Mesh) -> None:
    assert mesh.ask("/http-plain/forbidden").status == 403
    assert len(mesh.http.asked) == 1


@enforces("AuthorizationPolicy.spec.action")
def test_a_plain_connection_about_which_nobody_is_asked_is_closed(mesh: Mesh) -> None:
    raw = Ask(certificate=mesh.web, alpn=("istio",))
    assert [send(inbound(mesh.up, "raw", port), raw).status for port in (9000, 9001)] == [0, 200]
    line = eventually(lambda: mesh.up.access_log("sidecar~shop~raw"))[0]
    assert line["deny_policy"] == "ns[shop]-policy[ask-raw]-rule[0]-deny-due-to-CUSTOM-on-TCP"


@enforces("AuthorizationPolicy.spec.provider.name")
def test_a_provider_that_nobody_knows_denies(mesh: Mesh) -> None:
    answer = mesh.ask("/nobody/x")
    assert answer.status == 403
    decided = logged(mesh.up, "sidecar~shop~app", answer)["deny_policy"]
    assert decided == "ns[shop]-policy[ask-nobody]-rule[0]-deny-due-to-bad-CUSTOM-action"
    assert 'no ext_authz provider "nobody"' in mesh.up.output


_SENT = {"x-ask-one": "1", "cookie": "a=b", "x-old": "o", "x-private": "p", "authorization": "Bearer t"}


@enforces(
    f"{HTTP}pathPrefix",
    f"{HTTP}includeRequestHeadersInCheck",
    f"{HTTP}includeHeadersInCheck",
    f"{HTTP}includeAdditionalHeadersInCheck",
)
def test_what_an_http_provider_is_told(mesh: Mesh) -> None:
    mesh.ask("/http-rich/x?q=1", headers=_SENT, method="PUT")
    mesh.ask("/http-plain/x", headers=_SENT)
    rich, plain = mesh.http.asked
    assert (rich["path"], rich["method"]) == ("/check/http-rich/x?q=1", "PUT")
    assert plain["path"] == "/http-plain/x"
    told = {"x-ask-one": "1", "cookie": "a=b", "x-old": "o", "x-static": "fixed"}
    assert {name: rich["headers"].get(name) for name in (*told, "x-private")} == {**told, "x-private": None}
    assert not {"x-ask-one", "cookie", "x-old", "x-static", "x-private"} & plain["headers"].keys()


@enforces(f"{HTTP}headersToUpstreamOnAllow", f"{HTTP}headersToDownstreamOnAllow")
def test_what_an_http_provider_may_add_when_it_consents(mesh: Mesh) -> None:
    rich, plain = mesh.ask("/http-rich/x"), mesh.ask("/http-plain/x")
    assert (rich.seen("x-user"), rich.seen("x-seen")) == ("alice", None)
    assert (rich.headers.get("x-seen"), rich.headers.get("x-user")) == ("yes", None)
    assert (plain.seen("x-user"), plain.headers.get("x-seen")) == (None, None)
    assert mesh.ask("/http-rich/x", headers={"x-user": "mallory"}).seen("x-user") == "alice"


@enforces(f"{HTTP}headersToDownstreamOnDeny")
def test_what_an_http_provider_may_say_when_it_refuses(mesh: Mesh) -> None:
    rich, plain = mesh.ask("/http-rich/deny"), mesh.ask("/http-plain/deny")
    assert (rich.status, rich.headers.get("x-why"), rich.headers.get("x-other")) == (401, "no", None)
    assert rich.body == "refused by the authorizer"
    assert (plain.headers.get("x-why"), plain.headers.get("x-other")) == ("no", "secret"), "no list: all of them"


@enforces(
    f"{HTTP}includeRequestBodyInCheck.maxRequestBytes",
    f"{HTTP}includeRequestBodyInCheck.allowPartialMessage",
)
def test_the_body_that_an_http_provider_sees(mesh: Mesh) -> None:
    def asked(provider: str, body: bytes) -> tuple[int, bytes | None]:
        mesh.http.asked.clear()
        status = mesh.ask(f"/http-{provider}/x", method="POST", body=body).status
        return status, mesh.http.asked[0]["body"] if mesh.http.asked else None

    assert asked("plain", b"12345678") == (200, b"")
    assert asked("body", b"12345678") == (200, b"12345678")
    assert asked("body", b"123456789") == (413, None)
    assert asked("partial", b"123456789") == (200, b"12345678")
    assert asked("body", b"\xff\x00\xfe") == (200, b"\xff\x00\xfe"), "as it is, whatever packAsBytes says"


@enforces(
    f"{GRPC}includeRequestBodyInCheck.maxRequestBytes",
    f"{GRPC}includeRequestBodyInCheck.allowPartialMessage",
    f"{GRPC}includeRequestBodyInCheck.packAsBytes",
)
def test_the_body_that_a_grpc_provider_sees(mesh: Mesh) -> None:
    def asked(provider: str, body: bytes) -> tuple[int, str, bytes]:
        mesh.grpc.asked.clear()
        status = mesh.ask(f"/grpc-{provider}/x", method="POST", body=body).status
        if not mesh.grpc.asked:
            return status, "", b""
        http = mesh.grpc.asked[0].attributes.request.http
        return status, http.body, http.raw_body

    assert asked("plain", b"12345678") == (200, "", b"")
    assert asked("body", b"12345678") == (200, "12345678", b"")
    assert asked("body", b"123456789") == (413, "", b"")
    assert asked("partial", b"123456789") == (200, "12345678", b"")
    assert asked("bytes", b"\xff\x00\xfe") == (200, "", b"\xff\x00\xfe")
    assert asked("body", b"\xff\x00\xfe")[2] == b""


@pytest.mark.parametrize(
    "over",
    [
        pytest.param("http", marks=enforces(f"{HTTP}timeout", f"{HTTP}statusOnError", f"{HTTP}failOpen")),
        pytest.param("grpc", marks=enforces(f"{GRPC}timeout", f"{GRPC}statusOnError", f"{GRPC}failOpen")),
    ],
)
def test_a_provider_that_is_slow_or_gone(mesh: Mesh, over: str) -> None:
    # In a fifth of a second, which a busy machine does not always keep.
    eventually(lambda: mesh.ask(f"/{over}-hasty/x").status == 200)
    assert mesh.ask(f"/{over}-hasty/slow").status == 504
    assert mesh.ask(f"/{over}-plain/slow").status == 200
    assert mesh.ask(f"/{over}-dead/x").status == 403
    assert mesh.ask(f"/{over}-dead-503/x").status == 503
    assert mesh.ask(f"/{over}-dead-open/x").status == 200


@pytest.mark.parametrize(
    "over",
    [
        pytest.param("http", marks=enforces(f"{HTTP}clearRouteCache")),
        pytest.param("grpc", marks=enforces(f"{GRPC}clearRouteCache")),
    ],
)
def test_a_provider_may_choose_the_route_if_it_is_told_so(mesh: Mesh, over: str) -> None:
    chosen = mesh.up.get(f"http://app.example.com/{over}-routing/x")
    assert (chosen.status_code, chosen.headers["x-taken"]) == (200, "blue")
    kept = mesh.up.get(f"http://app.example.com/{over}-routing-not/x")
    assert (kept.status_code, kept.headers["x-taken"]) == (200, "default")


@enforces("AuthorizationPolicy.spec.rules[].when[experimental.envoy.filters.NAME[KEY]]")
@pytest.mark.parametrize("form", ["one", "list"])
def test_a_rule_asks_what_a_filter_left_behind(mesh: Mesh, form: str) -> None:
    assert mesh.ask(f"/grpc-plain/{form}/gold").status == 200
    assert mesh.ask(f"/grpc-plain/{form}/silver").status == 403


@pytest.mark.parametrize("over", ["http", "grpc"])
def test_a_provider_that_refuses_is_the_reason_whatever_it_says(mesh: Mesh, over: str) -> None:
    answer = mesh.ask(f"/{over}-plain/deny")
    assert (answer.status, logged(mesh.up, "sidecar~shop~app", answer)["reason"]) == (401, "provider-denied")


def test_a_provider_does_not_say_who_the_client_is(mesh: Mesh) -> None:
    """It says so with everything gold: the rules that would refuse such a client do not find it, nor does the log."""
    assert mesh.ask("/grpc-plain/one/gold").status == 200
    assert mesh.ask("/grpc-plain/list/gold").status == 200

    def told() -> list[dict[str, Any]]:
        return [line for line in mesh.up.access_log("sidecar~shop~app") if line["path"].endswith("/gold")]

    eventually(told)
    assert {(line.get("consumer"), line.get("consumer_groups"), line["reason"]) for line in told()} == {
        (None, None, None)
    }
