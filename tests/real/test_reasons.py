"""Each refusal has its code: in the access log of the proxy that refused, in the metric, in the answer if wanted."""

from __future__ import annotations

import json
import re
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.jwks.store import load_signing_key
from tests.real.attacking import said
from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.fields_peer import Answer, Ask, Issuer, send
from tests.real.forging import Forger, by_somebody, made
from tests.real.log import logged
from tests.real.refusing import (
    GONE,
    HOST,
    ISSUERS,
    JOB,
    MUTE,
    PLAIN,
    STRANGER,
    TOLD,
    answer,
    breaking,
    decide,
    providers,
    world,
)
from tests.real.traffic import Caller, caller, dump
from tests.real.up import Up, development_jwks, eventually, free_port

pytestmark = pytest.mark.real

EDGE, WEB, FRONT = "gateway~shop~edge", "sidecar~shop~web", "sidecar~shop~front"
_HEAD = f"GET / HTTP/1.1\r\nhost: {HOST}\r\n".encode()


@dataclass(frozen=True, slots=True)
class Mesh:
    up: Up
    folder: Path
    issuer: Issuer

    def ask(self, path: str, port: int = PLAIN, **options: Any) -> Answer:
        """At the gateway."""
        host, number = self.up.gateway(port)
        headers = {"host": HOST, **options.pop("headers", {})}
        return send(f"{host}:{number}", Ask(path, headers=headers, **options))

    def inbound(self, workload: str) -> str:
        """Where its sidecar takes connections."""
        (address,) = self.up.workload(workload)["inbound"].values()
        return str(address)

    def reason(self, proxy: str, **wanted: Any) -> str | None:
        """Of the newest line with these values."""
        found: str | None = logged(self.up, proxy, **wanted)["reason"]
        return found

    def refused(self, path: str, status: int, **options: Any) -> str | None:
        """The reason of a refusal by the gateway."""
        # The path is the request's name in the log, where it may be refused before it has an id.
        path = f"{path}?" if "?" not in path else path
        given = self.ask(path, **options)
        assert given.status == status, given
        return self.reason(EDGE, path=path.partition("?")[0], status=status)

    def bearing(self, token: str, status: int) -> str | None:
        path = f"/token/{uuid.uuid4().hex}"
        return self.refused(path, status, headers={"authorization": f"Bearer {token}"})

    def raw(self, port: int, sent: bytes, status: int) -> str | None:
        """The reason why the gateway does not take what is no request."""
        before = len(self.up.access_log(EDGE))
        found = said(self.up.gateway(port), sent)
        assert found.startswith(f"HTTP/1.1 {status} ".encode()), found

        def newest() -> dict[str, Any] | None:
            lines = self.up.access_log(EDGE)[before:]
            return next((line for line in lines if line.get("status") == status), None)

        line: dict[str, Any] = eventually(newest)
        code: str | None = line["reason"]
        return code


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder, issued = tmp_path_factory.mktemp("reasons"), tmp_path_factory.mktemp("issued")
    keys = development_jwks(folder / "state", folder / "jwks.json").read_text()
    with ExitStack() as running:
        web = running.enter_context(Backend("web", answer))
        authz = running.enter_context(Backend("authz", decide))
        ports = {"web": web.port, "authz": authz.port, "broken": running.enter_context(breaking())}
        documents = dump(*world(keys, {**ports, "nobody": free_port()}), caller("front", folder))
        manifests = {"all.yaml": documents, "mesh.json": providers()}
        up = running.enter_context(Up(folder, manifests))
        yield Mesh(up, folder, Issuer.of(up, issued))


def test_what_is_not_refused_has_none(mesh: Mesh) -> None:
    assert mesh.ask("/fine").status == 200
    assert mesh.reason(EDGE, path="/fine") is None
    assert mesh.reason(WEB, path="/fine") is None
    assert mesh.ask("/given").body == "mine"
    assert mesh.reason(EDGE, path="/given", status=403) is None, "an answer that a route gives is no refusal"


def test_tokens(mesh: Mesh) -> None:
    known = Forger(load_signing_key(mesh.up.state / "tokens"), ISSUERS["known"])
    assert mesh.ask("/fine", headers={"authorization": f"Bearer {known.token()}"}).status == 200
    now = int(time.time())
    assert mesh.bearing(known.token(claims=known.claims(exp=now - 3600)), 401) == "jwt-expired"
    assert mesh.bearing(known.token(claims=known.claims(nbf=now + 240)), 401) == "jwt-not-yet-valid"
    assert mesh.bearing(made(known.header(), known.claims(), by_somebody()), 401) == "jwt-signature-invalid"
    assert mesh.bearing(known.token(known.header(kid="lost")), 401) == "jwt-key-unknown"
    assert (
        mesh.bearing(known.token(claims=known.claims(iss="https://stranger.example.com")), 401) == "jwt-issuer-unknown"
    )
    assert (
        mesh.bearing(known.token(claims=known.claims(iss=ISSUERS["aud"], aud="bills")), 403) == "jwt-audience-invalid"
    )
    assert mesh.bearing("no.token", 401) == "jwt-malformed"
    assert mesh.bearing(known.token(claims=known.claims(iss=ISSUERS["away"])), 401) == "jwks-unavailable"


def test_policies_at_a_gateway(mesh: Mesh) -> None:
    assert mesh.refused("/forbidden", 403) == "denied-by-policy"
    assert mesh.refused("/unlisted", 403) == "not-allowed"
    assert mesh.refused("/nobody", 403) == "provider-unknown"
    assert mesh.refused("/asked", 402, headers={"x-refuse": "yes"}) == "provider-denied"
    assert mesh.ask("/asked").status == 200
    assert mesh.refused("/dead", 403) == "policy-service-unavailable"
    assert mesh.refused("/small", 413, method="POST", body=b"more than eight") == "body-too-large"


def test_callers_in_the_mesh(mesh: Mesh) -> None:
    def reason(identity: str, path: str) -> str | None:
        ask = Ask(path, certificate=mesh.issuer.certificate(identity))
        assert send(mesh.inbound("web"), ask).status == 403
        return mesh.reason(WEB, path=path, peer=identity)

    assert reason(STRANGER, "/jobs") == "peer-not-allowed"
    assert reason(JOB, "/other") == "not-allowed", "the caller is right, and what it asks is not"
    socket_path = str((mesh.up.state / "run").readlink() / "api.sock")
    with httpx.Client(transport=httpx.HTTPTransport(uds=socket_path, verify=False), timeout=20) as api:
        assert api.post("http://api/v1/ca/revoke", json={"spiffe_id": GONE, "take_back": False}).status_code == 200
    eventually(lambda: reason(GONE, "/gone") == "identity-revoked")


def test_connections_that_policies_close(mesh: Mesh) -> None:
    def reason(*identities: str) -> str | None:
        ask = Ask("/", certificate=mesh.issuer.certificate(*identities), alpn=("istio",))
        assert send(mesh.inbound("queue"), ask).status == 0
        return mesh.reason("sidecar~shop~queue", peer=",".join(identities))

    assert reason(STRANGER) == "peer-not-allowed"
    assert reason(JOB, STRANGER) == "peer-ambiguous"


def test_a_policy_that_cannot_be_read(mesh: Mesh) -> None:
    broken = '{"selector": {"matchLabels": {"app": "narrow"}}, "rules": [{"form": []}]}'
    head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: b, namespace: shop}\n"
    mesh.up.write("broken.yaml", f"{head}spec: {broken}\n")
    try:
        eventually(lambda: mesh.ask("/narrow", headers={"x-narrow": "yes"}).status == 403)
        assert mesh.reason("sidecar~shop~narrow", path="/narrow", status=403) == "policy-broken"
    finally:
        mesh.up.remove("broken.yaml")
    eventually(lambda: mesh.ask("/narrow", headers={"x-narrow": "yes"}).status == 200)


def test_requests_that_are_written_wrong(mesh: Mesh) -> None:
    assert mesh.raw(PLAIN, _HEAD + b"x_user: alice\r\n\r\n", 400) == "header-underscore"
    assert mesh.raw(PLAIN, f"GET /a%2Fb HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode(), 400) == "path-invalid"
    assert mesh.raw(PLAIN, b"GET / HTTP/1.1\r\n\r\n", 400) == "host-invalid"
    assert mesh.raw(PLAIN, _HEAD + b"x-long: " + b"a" * 70_000 + b"\r\n\r\n", 431) == "headers-too-large"
    both = b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n"
    assert mesh.raw(PLAIN, _HEAD.replace(b"GET", b"POST") + both, 400) == "framing-invalid"
    assert mesh.raw(PLAIN, b"this is no request\r\n\r\n", 400) == "protocol-error"
    assert mesh.refused("/x", 404, headers={"host": "elsewhere.example.com"}) == "route-not-found"


def test_a_request_that_does_not_come(mesh: Mesh) -> None:
    with socket.create_connection(mesh.up.gateway(PLAIN), 30) as slow:
        slow.sendall(_HEAD)
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
    assert mesh.reason(EDGE, status=408) == "request-timeout"


def test_connections_for_other_hosts(mesh: Mesh) -> None:
    context, address = mesh.up.trust(), mesh.up.gateway(8443)
    there = b"GET /wrong HTTP/1.1\r\nhost: b.example.com\r\n\r\n"
    assert said(address, there, context, "a.example.com").startswith(b"HTTP/1.1 421 ")
    assert mesh.reason(EDGE, path="/wrong") == "misdirected"
    with pytest.raises(OSError, match=r".*"):
        said(address, there, context, "b.example.com")
    assert mesh.reason(EDGE, sni="b.example.com") == "server-unknown"


def test_a_programs_own_calls(mesh: Mesh) -> None:
    front = Caller("front", mesh.folder)
    assert front.status("http://nowhere.example.com/away") == 502
    assert mesh.reason(FRONT, path="/away") == "host-not-registered"
    proxy = httpx.URL(front.env["http_proxy"]).copy_with(username=None, password=None)
    with httpx.Client(proxy=str(proxy), trust_env=False, timeout=30, verify=False) as stranger:
        assert stranger.get("http://web.shop.svc.cluster.local/lent").status_code == 407
    assert mesh.reason(FRONT, path="/lent") == "proxy-credential-invalid"


def test_services_that_do_not_answer(mesh: Mesh) -> None:
    assert mesh.ask("/nobody/there").status == 503
    assert mesh.reason("sidecar~shop~nobody", path="/nobody/there") == "upstream-unavailable"
    assert mesh.reason(EDGE, path="/nobody/there") is None, "it only passed the answer on"
    assert mesh.refused("/slow/hasty", 504) == "upstream-timeout"
    mesh.ask("/broken/off")
    assert mesh.reason("sidecar~shop~broken", path="/broken/off") == "upstream-broken"
    with ThreadPoolExecutor(8) as many:
        given = list(many.map(lambda _: mesh.ask("/slow/narrow", headers={"x-narrow": "yes"}).status, range(8)))
    assert 503 in given
    assert mesh.reason(EDGE, path="/slow/narrow", status=503) == "upstream-overflow"


@enforces("ClientTrafficPolicy.spec.errors.format", "ClientTrafficPolicy.spec.errors.reason")
def test_problem_documents(mesh: Mesh) -> None:
    """RFC 9457, where they are switched on; else the answer is as it was."""
    told, mute, plain = (mesh.ask("/forbidden", port) for port in (TOLD, MUTE, PLAIN))
    assert told.headers["content-type"] == "application/problem+json"
    assert json.loads(told.body) == {
        "type": "urn:isthmus:reason:denied-by-policy",
        "title": "A policy forbids this request.",
        "status": 403,
        "reason": "denied-by-policy",
    }
    assert mute.headers["content-type"] == "application/problem+json"
    assert json.loads(mute.body) == {"type": "about:blank", "title": "Forbidden", "status": 403}
    assert (plain.body, plain.headers["content-type"]) == ("RBAC: access denied", "text/plain")


def test_a_problem_document_says_of_an_access_policy_what_the_log_says(mesh: Mesh) -> None:
    known = Forger(load_signing_key(mesh.up.state / "tokens"), ISSUERS["known"])
    bearer = {"authorization": f"Bearer {known.token()}"}
    for sent, status, wanted in ((bearer, 403, "scope-missing"), ({}, 401, "not-authenticated")):
        path = f"/scoped/{uuid.uuid4().hex}"
        told = mesh.ask(path, TOLD, headers=sent)
        document = json.loads(told.body)
        assert (told.status, document["status"], document["reason"]) == (status, status, wanted)
        assert mesh.reason(EDGE, path=path, status=status) == wanted
        assert told.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert mesh.ask("/scoped", headers=bearer).body == "RBAC: access denied"
    mute = mesh.ask("/scoped", MUTE)
    assert json.loads(mute.body) == {"type": "about:blank", "title": "Unauthorized", "status": 401}
    grpc = mesh.ask("/scoped", TOLD, method="POST", headers={"content-type": "application/grpc"})
    assert grpc.headers["grpc-status"] == "7", "no rule is about a POST"
    grpc = mesh.ask("/scoped", TOLD, headers={"content-type": "application/grpc"})
    assert (grpc.headers["grpc-status"], grpc.headers["www-authenticate"]) == ("16", "Bearer")
    assert "urn" not in grpc.headers.get("grpc-message", "")
    scope = known.token(claims=known.claims(scope="orders:read"))
    assert mesh.ask("/scoped", TOLD, headers={"authorization": f"Bearer {scope}"}).status == 200


def test_what_a_problem_document_leaves_alone(mesh: Mesh) -> None:
    assert mesh.ask("/given", TOLD).body == "mine", "a route's own answer"
    assert json.loads(mesh.ask("/asked", TOLD, headers={"x-refuse": "yes"}).body)["backend"] == "authz"
    assert mesh.ask("/fine", TOLD).status == 200
    grpc = mesh.ask("/forbidden", TOLD, method="POST", headers={"content-type": "application/grpc"})
    assert grpc.headers["grpc-status"] == "7"
    assert "urn" not in grpc.headers.get("grpc-message", "")
    expired = mesh.ask("/fine", TOLD, headers={"authorization": "Bearer no.token"})
    assert json.loads(expired.body)["reason"] == "jwt-malformed"


def test_refusals_are_counted_by_reason(mesh: Mesh) -> None:
    where = mesh.up.ready["control_plane"]["http"]

    def counted(gateway: str, reason: str) -> int:
        with httpx.Client(trust_env=False, verify=False, timeout=20) as client:
            text = client.get(f"{where}/metrics/proxies/{gateway}").text
        lines = re.findall(rf'^isthmus_denied_requests_total\{{[^}}]*reason="{reason}"[^}}]*\}} (\d+)$', text, re.M)
        return sum(map(int, lines))

    before = counted(EDGE, "denied-by-policy")
    for _ in range(3):
        assert mesh.ask("/forbidden").status == 403
        assert mesh.ask("/fine").status == 200
    eventually(lambda: counted(EDGE, "denied-by-policy") == before + 3)
    for never in ("", "unknown", "-", "upstream-timeout", "upstream-unavailable"):
        assert counted(EDGE, never) == 0, "neither what was let on, nor what failed"
    assert counted(WEB, "peer-not-allowed") > 0
