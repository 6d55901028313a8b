"""The template of a gateway before one workload: every answer of it, on real Envoys."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.real.backend import Backend, header
from tests.real.manifests import ISSUER, TEMPLATE, service, workload_entry
from tests.real.up import Up, development_jwks, isthmus

HEALTH = "https://api.prod.example.com/api/v1/health"
GATEWAY_ID = "spiffe://cluster.local/ns/api-system/sa/production-gateway"
BACKEND_ID = "spiffe://cluster.local/ns/api-system/sa/backend"


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend() as running:
        yield running


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("template")
    jwks = development_jwks(folder / "state", folder / "jwks.json")
    manifests = {
        "template.yaml": TEMPLATE,
        "backend.yaml": service("backend-service", "api-system")
        + "---\n"
        + workload_entry("backend-1", "api-system", "backend-service", backend.port, account="backend")
        + "---\n"
        + "apiVersion: isthmus.dev/v1alpha1\nkind: LocalWorkload\n"
        + "metadata: {name: stranger, namespace: elsewhere}\nspec: {serviceAccount: stranger}\n",
    }
    with Up(folder, manifests, "--jwks", f"{ISSUER}={jwks}") as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_valid_token_with_the_role_passes(up: Up, backend: Backend) -> None:
    token = up.token(ISSUER, role="api-user")
    answer = up.get(HEALTH, headers=bearer(token))
    assert answer.status_code == 200, answer.text
    saw = answer.json()
    assert saw["path"] == "/api/v1/health"
    assert header(saw, "x-istio-jwt") == token.split(".")[1]
    assert header(saw, "authorization") == f"Bearer {token}"


def test_backend_sees_both_hops(up: Up) -> None:
    saw = up.get(HEALTH, headers=bearer(up.token(ISSUER, role="api-admin"))).json()
    xfcc = header(saw, "x-forwarded-client-cert") or ""
    fields = dict(part.partition("=")[::2] for part in xfcc.split(";"))
    assert fields["By"] == BACKEND_ID
    assert fields["URI"] == GATEWAY_ID
    assert "," not in xfcc


def test_no_token_is_forbidden(up: Up) -> None:
    assert up.get(HEALTH).status_code == 403


def test_other_role_is_forbidden(up: Up) -> None:
    assert up.get(HEALTH, headers=bearer(up.token(ISSUER, role="guest"))).status_code == 403


@pytest.mark.parametrize("kind", ["expired", "other key", "garbage", "alg none", "other issuer"])
def test_bad_tokens_are_unauthorized(up: Up, tmp_path: Path, kind: str) -> None:
    good = up.token(ISSUER, role="api-user")
    header_, payload, _ = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    bad = {
        "expired": lambda: up.token(ISSUER, role="api-user", expires="-10m"),
        "other key": lambda: isthmus(
            "token", "--state", str(tmp_path / "s"), "--issuer", ISSUER, "--claim", "role=api-user"
        ).stdout.strip(),
        "garbage": lambda: "garbage",
        "alg none": lambda: f"{none}.{payload}.",
        "other issuer": lambda: up.token("https://evil.example.com", role="api-user"),
    }[kind]()
    answer = up.get(HEALTH, headers=bearer(bad))
    assert answer.status_code == 401
    assert "jwt" not in answer.text.lower(), "why a token fails is for the log, not for the caller"
    assert header_ not in up.output


def test_spoofed_payload_header_never_arrives(up: Up, backend: Backend) -> None:
    spoofed = {"x-istio-jwt": "spoofed"}
    token = up.token(ISSUER, role="api-user")
    saw = up.get(HEALTH, headers={**spoofed, **bearer(token)}).json()
    assert header(saw, "x-istio-jwt") == token.split(".")[1]
    before = len(backend.seen)
    with up.client() as client:
        preflight = {"origin": "https://evil.example.com", "access-control-request-method": "GET"}
        up.send(client, "OPTIONS", HEALTH, headers={**spoofed, **preflight})
        up.send(client, "OPTIONS", HEALTH, headers={**spoofed, **preflight, **bearer(token)})
    for seen in backend.seen[before:]:
        assert header(seen, "x-istio-jwt") != "spoofed"


def test_other_path_is_not_found(up: Up) -> None:
    token = up.token(ISSUER, role="api-user")
    assert up.get("https://api.prod.example.com/other", headers=bearer(token)).status_code == 404


def test_plaintext_to_the_sidecar_is_refused(up: Up, backend: Backend) -> None:
    (address,) = up.workload("backend-1")["inbound"].values()
    before = len(backend.seen)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{address}/api/v1/health", trust_env=False, timeout=30, verify=False)
    assert len(backend.seen) == before


def test_tls_without_a_certificate_is_refused(up: Up) -> None:
    (address,) = up.workload("backend-1")["inbound"].values()
    host, _, port = address.rpartition(":")
    context = up.trust()
    context.check_hostname = False
    with pytest.raises((ssl.SSLError, ConnectionError)), socket.create_connection((host, int(port))) as raw:
        with context.wrap_socket(raw) as secured:
            secured.sendall(b"GET /api/v1/health HTTP/1.1\r\nhost: x\r\n\r\n")
            if not secured.recv(1):
                raise ConnectionError("closed")


def test_workload_of_another_namespace_is_forbidden(up: Up) -> None:
    token = up.token(ISSUER, role="api-user")
    url = "http://backend-service.api-system.svc.cluster.local:8080/api/v1/health"
    run = isthmus(
        "run", "--state", str(up.state), "-n", "elsewhere", "--service-account", "stranger", "--",
        "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"authorization: Bearer {token}", url,
    )  # fmt: skip
    assert (run.stdout, run.returncode) == ("403", 0), run.stderr


def test_workload_of_the_namespace_passes(up: Up) -> None:
    token = up.token(ISSUER, role="api-user")
    url = "http://backend-service.api-system.svc.cluster.local:8080/api/v1/health"
    run = isthmus(
        "run", "--state", str(up.state), "-n", "api-system", "--service-account", "caller", "--",
        "curl", "-s", "-H", f"authorization: Bearer {token}", url,
    )  # fmt: skip
    saw = json.loads(run.stdout)
    assert "URI=spiffe://cluster.local/ns/api-system/sa/caller" in (header(saw, "x-forwarded-client-cert") or "")
    assert header(saw, "proxy-authorization") is None
