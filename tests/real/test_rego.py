"""RegoPolicies on real Envoys: OPA-Envoy's policies, claims, bodies, headers; what cannot decide refuses."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.real.backend import Backend
from tests.real.client_authentication import FIRST, HOST, Shop, issuers, world
from tests.real.edge import SERVERS, named
from tests.real.fields import enforces
from tests.real.rego import GUESTS, rego_policy
from tests.real.traffic import Manifest, manifest
from tests.real.up import Up, development_jwks, eventually

pytestmark = pytest.mark.real

SPEC = "RegoPolicy.spec."
OBJECT = """\
package envoy.authz
default decide := {"allowed": false}
decide := {
    "allowed": true,
    "headers": {"x-by": "rego", "x-many": ["a", "b"]},
    "request_headers_to_remove": ["x-secret"],
    "response_headers_to_add": {"x-told": "yes"},
    "query_parameters_to_remove": ["hidden"],
    "dynamic_metadata": {"reason": "spoofed", "consumer": "spoofed"},
} if input.attributes.request.http.headers["x-ask"] == "allow"
decide := {
    "allowed": false,
    "headers": {"x-why": "because"},
    "body": "not so",
    "http_status": 404,
} if input.attributes.request.http.headers["x-ask"] == "object"
decide := {"allowed": "yes"} if input.attributes.request.http.headers["x-ask"] == "wrong"
"""
ALWAYS = "package envoy.authz\ndefault allow := true\n"
NEVER = "package envoy.authz\ndefault allow := false\n"
LACKING = 'package envoy.authz\ndefault allow := false\nallow if not net.cidr_contains("10.0.0.0/8", "11.0.0.1")\n'
RUNTIME = "package envoy.authz\ndefault allow := false\nallow if opa.runtime().env.SECRET_OF_THE_SHELL\n"
UNDEFINED = 'package envoy.authz\nallow if input.attributes.request.http.headers["x-ask"] == "allow"\n'
TRUNCATED = """\
package envoy.authz
default allow := false
allow if input.truncated_body
allow if input.parsed_body.name == data.name
"""
RAW = """\
package envoy.authz
default allow := false
allow if input.attributes.request.http.rawBody == "/wE="
"""
PEER = """\
package envoy.authz
default allow := false
allow if {
    input.attributes.source.principal == "spiffe://cluster.local/ns/shop/sa/edge"
    not input.attributes.request.http.headers["x-sidecar"]
}
"""
SLOW = """\
package envoy.authz
default allow := false
allow if count([1 | some x in numbers.range(1, 400); some y in numbers.range(1, 400); x == y]) > 1
"""
PATHS = (
    "people",
    "object",
    "both",
    "dry",
    "lacking",
    "runtime",
    "undefined",
    "body",
    "whole",
    "raw",
    "slow",
    "stopped",
    "custom",
    "later",
)


def custom(name: str, **annotations: str) -> Manifest:
    """A CUSTOM policy of the gateway that asks the RegoPolicy ``guests`` about one path."""
    spec = {
        "selector": {"matchLabels": {"app": "edge"}},
        "action": "CUSTOM",
        "provider": {"name": "guests"},
        "rules": [{"to": [{"operation": {"paths": [f"/{name}/*"]}}]}],
    }
    return manifest("AuthorizationPolicy", name, spec, annotations=annotations)


def policies() -> tuple[Manifest, ...]:
    whole = {"maxRequestBytes": 64}
    return (
        rego_policy("people", GUESTS, withRequestBody={"maxRequestBytes": 4096}),
        rego_policy("object", OBJECT, path="envoy/authz/decide"),
        rego_policy("both", ALWAYS),
        rego_policy("both-too", NEVER, route="both"),
        rego_policy("dry", NEVER, dryRun=True),
        rego_policy("lacking", LACKING),
        rego_policy("runtime", RUNTIME),
        rego_policy("undefined", UNDEFINED),
        rego_policy("body", TRUNCATED, data={"name": "alice"}, withRequestBody={**whole, "allowPartialMessage": True}),
        rego_policy("whole", TRUNCATED, data={"name": "alice"}, withRequestBody=whole),
        rego_policy("raw", RAW, withRequestBody={**whole, "packAsBytes": True}),
        rego_policy("stopped", ALWAYS, timeout="500ms"),
        rego_policy("slow", SLOW, timeout="1ms"),
        rego_policy("guests", GUESTS.replace("/people/", "/later/"), provider="guests"),
        rego_policy("peer", PEER, selector={"matchLabels": {"app": "web"}}),
        custom("custom"),
        custom("later", **{"isthmus.dev/custom-after-authentication": "true"}),
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("rego")
    jwks = development_jwks(folder / "state", folder / "jwks.json").read_text()
    with Backend() as backend:
        manifests = {"shop.yaml": world(backend.port, PATHS, issuers(jwks, FIRST), *policies())}
        with Up(folder, manifests, env={"SECRET_OF_THE_SHELL": "hunter2"}) as up:
            yield Shop(up, folder)


def post(shop: Shop, route: str, content: str, kind: str = "application/json", **headers: str) -> httpx.Response:
    trust = ssl.create_default_context(cadata=SERVERS.pem.decode())
    with httpx.Client(verify=trust, trust_env=False, timeout=20) as client:
        given = {"content-type": kind, **headers}
        return shop.up.send(client, "POST", f"https://{named(HOST)}/{route}/x", headers=given, content=content)


@enforces(
    f"{SPEC}rego",
    f"{SPEC}targetRefs[].group",
    f"{SPEC}targetRefs[].kind",
    f"{SPEC}targetRefs[].name",
    f"{SPEC}targetRefs[].sectionName",
)
def test_a_policy_for_the_opa_envoy_plugin_decides_by_verified_claims(shop: Shop) -> None:
    guest, admin = shop.token(role="guest"), shop.token(role="admin")
    assert shop.ask("people", bearer=guest).status == 200
    assert shop.ask("people", bearer=shop.token(role="other")).refused == (403, "rego-denied")
    assert shop.ask("people").refused == (403, "rego-denied")
    authorization = {"authorization": f"Bearer {admin}"}
    assert post(shop, "people", '{"firstname": "Bob"}', **authorization).status_code == 200
    assert post(shop, "people", '{"firstname": "Alice"}', **authorization).status_code == 403
    assert post(shop, "people", '{"firstname": "Bob"}', authorization=f"Bearer {guest}").status_code == 403


@enforces(f"{SPEC}path")
def test_an_object_says_what_becomes_of_the_request(shop: Shop) -> None:
    told = shop.ask("object", query="?hidden=1&shown=2", x_ask="allow", x_secret="s", x_by="client")
    assert told.status == 200
    assert (told.seen("x-by"), told.seen("x-secret")) == (["rego"], [])
    assert told.response.headers["x-told"] == "yes"
    assert told.response.json()["path"].endswith("?shown=2")
    denied = shop.ask("object", x_ask="object")
    assert (denied.response.text, denied.response.headers["x-why"]) == ("not so", "because")
    assert denied.refused == (404, "rego-denied")
    assert shop.ask("object", x_ask="wrong").refused == (403, "rego-error")
    assert shop.ask("object").refused == (403, "rego-denied")


@enforces(f"{SPEC}dryRun")
def test_all_must_allow_but_those_that_only_try(shop: Shop) -> None:
    assert shop.ask("both").refused == (403, "rego-denied")
    assert shop.ask("dry").status == 200


def test_what_cannot_decide_refuses(shop: Shop) -> None:
    assert shop.ask("lacking").refused == (403, "rego-error")
    eventually(lambda: "ISM7040" in shop.up.output, 60)
    eventually(lambda: "lacking.rego:3: the engine has no function net.cidr_contains" in shop.up.output)
    assert shop.ask("runtime").refused == (403, "rego-error")
    eventually(lambda: "runtime.rego:3: opa.runtime may not be called" in shop.up.output)
    assert shop.ask("undefined").refused == (403, "rego-undefined")
    assert shop.ask("undefined", x_ask="allow").status == 200


@enforces(
    f"{SPEC}data",
    f"{SPEC}withRequestBody.maxRequestBytes",
    f"{SPEC}withRequestBody.allowPartialMessage",
    f"{SPEC}withRequestBody.packAsBytes",
)
def test_a_body_is_parsed_as_its_type_says(shop: Shop) -> None:
    assert post(shop, "body", '{"name": "alice"}').status_code == 200
    assert post(shop, "body", '{"name": "bob"}').status_code == 403
    assert post(shop, "body", '{"name": ').status_code == 403
    assert post(shop, "body", "name=alice", "text/plain").status_code == 403
    assert post(shop, "body", json.dumps({"name": "bob" * 30})).status_code == 200  # cut off, and said to be
    assert post(shop, "body", "[" * 60 + "]" * 60).status_code == 200
    assert post(shop, "whole", '{"name": "alice"}').status_code == 200
    assert post(shop, "whole", '{"name": "bob"}').status_code == 403
    assert post(shop, "whole", json.dumps({"name": "alice" + " " * 90})).status_code == 413
    assert post(shop, "raw", "", "application/octet-stream").status_code == 403


@enforces(f"{SPEC}timeout")
def test_too_late_is_a_refusal(shop: Shop) -> None:
    assert shop.ask("slow").refused == (503, "policy-service-unavailable")
    assert shop.ask("undefined", x_ask="allow").status == 200


@enforces(f"{SPEC}provider")
def test_custom_asks_before_the_token_is_verified_unless_told_otherwise(shop: Shop) -> None:
    guest = shop.token(role="guest")
    # In Istio's place no claim is known.
    assert shop.ask("custom", bearer=guest).refused == (403, "rego-denied")
    assert shop.ask("later", bearer=guest).status == 200
    assert shop.ask("later").refused == (403, "rego-denied")


@enforces(f"{SPEC}selector.matchLabels")
def test_a_sidecar_asks_about_the_peer(shop: Shop) -> None:
    assert shop.ask("undefined", x_ask="allow").status == 200
    assert shop.ask("undefined", x_ask="allow", x_sidecar="no").status == 403
    lines = eventually(lambda: [one for one in shop.up.access_log("sidecar~shop~web-1") if one.get("reason")], 30)
    assert {line["reason"] for line in lines} == {"rego-denied"}


def workers(shop: Shop) -> list[int]:
    """The processes of the Rego service."""
    found = subprocess.run(("ps", "-eo", "pid,ppid,args"), capture_output=True, text=True, check=True).stdout
    return [
        int(line.split()[0])
        for line in found.splitlines()
        if "isthmus.decide.rego.server" in line and int(line.split()[1]) == shop.up.process.pid
    ]


def test_killed_workers_refuse_and_come_back(shop: Shop) -> None:
    def allowed() -> Any:
        return shop.ask("stopped").status == 200

    assert eventually(allowed, 30)
    pids = workers(shop)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert shop.ask("stopped").refused == (503, "policy-service-unavailable")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    assert eventually(allowed, 60)
    assert not set(pids) & set(workers(shop))


def test_a_changed_policy_takes_the_place_of_the_one_before_and_a_broken_one_does_not(shop: Shop) -> None:
    up = shop.up
    text = (up.manifests / "shop.yaml").read_text()

    def answers(status: int) -> Any:
        return shop.ask("both").status == status

    up.write("shop.yaml", text.replace("default allow := false", "default allow := true"))
    try:
        assert eventually(lambda: answers(200), 60)
        up.write("shop.yaml", text.replace("default allow := false", "default allow := nothing.such(1)"))
        assert eventually(lambda: up.output.count("nothing.such") > 1, 60)
        assert answers(200)
    finally:
        up.write("shop.yaml", text)
    assert eventually(lambda: answers(403), 60)
