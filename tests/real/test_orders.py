"""An API of orders behind a gateway that a Deployment carries: faults on purpose, tokens, scopes, on real Envoys."""

from __future__ import annotations

import http.client
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.real.backend import Backend, header
from tests.real.fields_peer import bearer
from tests.real.manifests import service, workload_entry
from tests.real.traffic import Obedient, Try, within_bounds
from tests.real.up import Up, development_jwks

pytestmark = pytest.mark.real

ISSUER = "https://login.example.com"
HOST = "fulfilment.example.com"
ORDERS = f"https://{HOST}/v2/orders"
MANIFESTS = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: front-door
  namespace: fulfilment
  annotations: {sidecar.istio.io/inject: "true"}
spec:
  replicas: 3
  selector:
    matchLabels: {app: front-door}
  template:
    metadata:
      labels: {app: front-door}
    spec:
      containers:
        - name: proxy
          image: envoyproxy/envoy:v1.39.3
          ports: [{containerPort: 8443}]
---
apiVersion: networking.istio.io/v1beta1
kind: Gateway
metadata: {name: front-door, namespace: fulfilment}
spec:
  selector: {app: front-door}
  servers:
    - port: {number: 443, name: https, protocol: HTTPS}
      tls: {mode: SIMPLE, credentialName: front-door-tls}
      hosts: [fulfilment.example.com]
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: orders, namespace: fulfilment}
spec:
  hosts: [fulfilment.example.com]
  gateways: [front-door]
  http:
    - match: [{uri: {prefix: /v2/orders}}]
      route:
        - destination:
            host: orders.fulfilment.svc.cluster.local
            port: {number: 8080}
      retries: {attempts: 3, perTryTimeout: 2s}
      fault:
        abort:
          httpStatus: 503
          percentage: {value: 0.5}
---
apiVersion: security.istio.io/v1beta1
kind: RequestAuthentication
metadata: {name: tokens, namespace: fulfilment}
spec:
  selector: {matchLabels: {app: orders}}
  jwtRules:
    - issuer: https://login.example.com
      jwksUri: https://login.example.com/jwks.json
      forwardOriginalToken: true
      outputPayloadToHeader: x-jwt-payload
---
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata: {name: scopes, namespace: fulfilment}
spec:
  selector: {matchLabels: {app: orders}}
  action: ALLOW
  rules:
    - from: [{source: {requestPrincipals: ["https://login.example.com/*"]}}]
      when: [{key: "request.auth.claims[scope]", values: ["orders:read", "orders:write"]}]
"""
_REQUESTS = 5000
_SHARE = 0.005


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend("orders", Obedient()) as backend:
        yield backend


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("orders")
    jwks = development_jwks(folder / "state", folder / "jwks.json")
    manifests = {
        "fulfilment.yaml": MANIFESTS,
        "program.yaml": service("orders", "fulfilment")
        + "---\n"
        + workload_entry("orders-1", "fulfilment", "orders", backend.port, account="orders"),
    }
    with Up(folder, manifests, "--jwks", f"{ISSUER}={jwks}") as running:
        yield running


@pytest.fixture(scope="module")
def client(up: Up) -> Iterator[httpx.Client]:
    with up.client() as client:
        yield client


def authorized(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def aborted(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and answer.text == "fault filter abort"


def ask(up: Up, client: httpx.Client, headers: dict[str, str], url: str = f"{ORDERS}/7") -> httpx.Response:
    """The answer of a request that was not aborted on purpose."""
    for _ in range(5):
        answer = up.send(client, "GET", url, headers=headers)
        if not aborted(answer):
            return answer
    raise AssertionError("five aborts in a row")


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": "orders:read"},
        {"scope": "orders:write"},
        {"scope": "openid orders:read profile"},
        {"scope": ["reports", "orders:write"]},
    ],
)
def test_either_scope_is_enough(up: Up, client: httpx.Client, claims: dict[str, Any]) -> None:
    token = bearer(up, ISSUER, **claims)
    answer = ask(up, client, authorized(token))
    assert answer.status_code == 200, answer.text
    saw = answer.json()
    assert header(saw, "x-jwt-payload") == token.split(".")[1]
    assert header(saw, "authorization") == f"Bearer {token}"
    assert "URI=spiffe://cluster.local/ns/fulfilment/sa/default" in (header(saw, "x-forwarded-client-cert") or "")


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"scope": ""},
        {"scope": "orders"},
        {"scope": "orders:readonly"},
        {"scope": "orders:read,orders:write"},
        {"scope": "ORDERS:READ"},
        {"scope": ["reports", "orders:delete"]},
        {"scopes": "orders:read"},
    ],
)
def test_no_other_scope_is(up: Up, client: httpx.Client, backend: Backend, claims: dict[str, Any]) -> None:
    tried = Try(backend)
    answer = ask(up, client, {**tried.headers, **authorized(bearer(up, ISSUER, **claims))})
    assert answer.status_code == 403
    assert not tried.seen


def test_only_tokens_of_the_issuer_count(up: Up, client: httpx.Client, backend: Backend) -> None:
    tried = Try(backend)
    other = bearer(up, "https://login.example.org", scope="orders:read")
    found = [ask(up, client, {**tried.headers, **headers}).status_code for headers in (authorized(other), {})]
    assert found == [401, 403]
    assert not tried.seen


def test_other_paths_lead_nowhere(up: Up, client: httpx.Client) -> None:
    token = authorized(bearer(up, ISSUER, scope="orders:read"))
    assert ask(up, client, token, "https://fulfilment.example.com/v1/orders").status_code == 404


def test_retries(up: Up, client: httpx.Client, backend: Backend) -> None:
    """Three more attempts at what was not done, each of two seconds; a plain 503 is an answer."""
    token = authorized(bearer(up, ISSUER, scope="orders:read"))

    def asked(**told: str) -> tuple[int, int]:
        tried = Try(backend, **told)
        answer = ask(up, client, {**tried.headers, **token})
        return answer.status_code, len(tried.seen)

    assert asked(x_grpc="14") == (200, 4)
    assert asked(x_grpc="14,0") == (200, 2)
    assert asked(x_answer="503") == (503, 1)
    assert asked(x_delay="2.6") == (504, 1)


def many(up: Up, headers: dict[str, str]) -> Counter[int]:
    """The statuses of so many requests, one after the other on one connection."""
    host, port = up.gateway(443)
    connection = http.client.HTTPConnection(HOST, port)
    plain = socket.create_connection((host, port), 60)
    with up.trust().wrap_socket(plain, server_hostname=HOST) as connection.sock:
        found: Counter[int] = Counter()
        for _ in range(_REQUESTS):
            connection.request("GET", "/v2/orders", headers={"host": HOST, **headers})
            answer = connection.getresponse()
            answer.read()
            found[answer.status] += 1
        return found


def test_half_a_percent_is_aborted_at_the_gateway(up: Up, backend: Backend) -> None:
    """Of 5,000 requests as many as chance allows; none of them reaches a program or is tried again."""
    tried = Try(backend)
    headers = {**tried.headers, **authorized(bearer(up, ISSUER, scope="orders:read"))}
    statuses = many(up, headers)
    count = statuses[503]
    print(f"{count} of {_REQUESTS} aborted")
    assert statuses == {200: _REQUESTS - count, 503: count}
    assert len(tried.seen) == _REQUESTS - count
    assert within_bounds(count, _REQUESTS, _SHARE), count
