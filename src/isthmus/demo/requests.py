"""The requests to try, what each must be answered, and who decides it."""

from __future__ import annotations

import base64
import json
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

HOST = "shop.example.com"
_FORGED_PAYLOAD = base64.urlsafe_b64encode(b'{"sub":"admin","role":"staff"}').rstrip(b"=").decode()
_FORGED_PEER = "By=spiffe://cluster.local/ns/shop/sa/orders;URI=spiffe://cluster.local/ns/shop/sa/forged"
_JSON = ("content-type", "application/json")
_ONE_TEA = json.dumps({"sku": "tea-assam", "quantity": 1})


@dataclass(frozen=True, slots=True)
class Try:
    """One request. ``person``: whose token it brings; ``bearer``: what it brings instead of one."""

    title: str
    path: str
    expected: int
    why: str
    """Which resource decides."""
    method: str = "GET"
    scheme: str = "https"
    host: str = HOST
    person: str | None = None
    bearer: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    workload: str | None = None
    """The service account of namespace shop that sends it, inside the mesh; None: sent from outside, to the gateway."""
    shows: str = ""
    """A text that has to be in the body."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the demo runs. ``https`` and ``http``: the gateway's addresses, as ``address:port``."""

    https: str
    http: str
    idp_url: str
    state: Path
    ca_bundle: Path

    def gateway(self, one: Try) -> str:
        return self.https if one.scheme == "https" else self.http


@dataclass(frozen=True, slots=True)
class Outcome:
    """``status`` None: no answer. ``problem`` None: as expected."""

    sent: Try
    status: int | None
    problem: str | None

    @property
    def passed(self) -> bool:
        return self.problem is None


FIRST = Try(
    "Alice reads her orders",
    "/orders",
    200,
    "AuthorizationPolicy shop/orders: the gateway calls, scope orders:read",
    person="alice",
    shows='"subject":"alice"',
)
"""Passes through every hop."""

TRIES = (
    Try("No token", "/orders", 403, "AuthorizationPolicy edge/token-required"),
    Try("Not a token", "/orders", 401, "RequestAuthentication edge/customers", bearer="garbage"),
    FIRST,
    Try(
        "Alice orders, without the scope for it",
        "/orders",
        403,
        "AuthorizationPolicy shop/orders: no scope orders:write",
        method="POST",
        person="alice",
        headers=(_JSON,),
        body=_ONE_TEA,
    ),
    Try(
        "The admin orders",
        "/orders",
        201,
        "AuthorizationPolicy shop/orders: scope orders:write",
        method="POST",
        person="admin",
        headers=(_JSON,),
        body=_ONE_TEA,
        shows='"name":"Ada Admin"',
    ),
    Try("A path nobody serves", "/admin", 404, "VirtualService shop/shop has no such route", person="admin"),
    Try(
        "inventory, from outside",
        "/stock/tea-assam",
        404,
        "VirtualService shop/shop: no route leads to inventory",
        person="admin",
    ),
    Try(
        "users, from outside: there is a route, and no way in",
        "/users/bob",
        403,
        "AuthorizationPolicy shop/users: the gateway is not orders",
        person="admin",
    ),
    Try(
        "Alice claims to be the admin in x-jwt-payload",
        "/orders",
        200,
        "RequestAuthentication shop/customers puts the verified claims in its place",
        person="alice",
        headers=(("x-jwt-payload", _FORGED_PAYLOAD),),
        shows='"subject":"alice"',
    ),
    Try(
        "Alice claims to be a workload in x-forwarded-client-cert",
        "/orders",
        200,
        "The gateway drops it; orders sees the gateway's own identity",
        person="alice",
        headers=(("x-forwarded-client-cert", _FORGED_PEER),),
        shows='"caller":"spiffe://cluster.local/ns/edge/sa/shop-gateway"',
    ),
    Try("Plain HTTP", "/orders", 301, "Gateway edge/shop-gateway: httpsRedirect", scheme="http"),
    Try(
        "users calls inventory",
        "/stock/tea-assam",
        403,
        "AuthorizationPolicy shop/inventory: only orders may",
        scheme="http",
        host="inventory.shop.svc.cluster.local:8080",
        workload="users",
    ),
    Try(
        "orders calls inventory",
        "/stock/tea-assam",
        200,
        "AuthorizationPolicy shop/inventory",
        scheme="http",
        host="inventory.shop.svc.cluster.local:8080",
        workload="orders",
        shows='"caller":"spiffe://cluster.local/ns/shop/sa/orders"',
    ),
    Try(
        "orders calls users, for nobody",
        "/users/bob",
        403,
        "AuthorizationPolicy shop/users: the workload is not enough, a user's token is needed",
        scheme="http",
        host="users.shop.svc.cluster.local:8080",
        workload="orders",
    ),
)


def judge(one: Try, status: int, body: str) -> Outcome:
    """Compare an answer with what was expected."""
    if status != one.expected:
        said = f": {body[:200]}" if body else ""
        return Outcome(one, status, f"expected {one.expected}{said}")
    if one.shows not in body:
        return Outcome(one, status, f"{one.shows} is not in the answer: {body[:200]}")
    return Outcome(one, status, None)


def token_function(where: Places) -> str:
    """A shell function: ``token alice`` prints a token."""
    take_out = shlex.quote('s/.*"access_token":"\\([^"]*\\)".*/\\1/')
    form = '-d grant_type=password -d "username=$1" -d "password=$1"'
    return f"token() {{ curl -s {where.idp_url}/token {form} | sed {take_out}; }}"


def _isthmus() -> list[str]:
    """How this person can call us: by name only where it is on the PATH."""
    return ["isthmus"] if shutil.which("isthmus") else [shlex.quote(sys.executable), "-m", "isthmus"]


def as_curl(one: Try, where: Places) -> str:
    """The request as one shell command that prints the body and the status. Needs :func:`token_function`."""
    words = ["curl", "-s", "-w", shlex.quote(r"\n%{http_code}\n")]
    if one.method != "GET":
        words += ["-X", one.method]
    for name, value in one.headers:
        words += ["-H", shlex.quote(f"{name}: {value}")]
    if one.person is not None:
        words += ["-H", f'"authorization: Bearer $(token {one.person})"']
    elif one.bearer is not None:
        words += ["-H", shlex.quote(f"authorization: Bearer {one.bearer}")]
    if one.body is not None:
        words += ["-d", shlex.quote(one.body)]
    if one.workload is not None:
        run = [*_isthmus(), "run", "--state", shlex.quote(str(where.state))]
        run += ["-n", "shop", "--service-account", one.workload, "--"]
        return " ".join([*run, *words, f"http://{one.host}{one.path}"])
    address, _, port = where.gateway(one).rpartition(":")
    words += ["--resolve", f"{one.host}:{port}:{address}"]
    if one.scheme == "https":
        words += ["--cacert", shlex.quote(str(where.ca_bundle))]
    return " ".join([*words, f"{one.scheme}://{one.host}:{port}{one.path}"])
