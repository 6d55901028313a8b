"""Rules of an AuthorizationPolicy, field by field, with requests that each takes and requests that it does not take."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.real.manifests import ISSUER

WEB = "shop/web"
SOURCE = "AuthorizationPolicy.spec.rules[].from[].source."
OPERATION = "AuthorizationPolicy.spec.rules[].to[].operation."
WHEN = "AuthorizationPolicy.spec.rules[].when"


@dataclass(frozen=True, slots=True)
class Try:
    """A request by the peer ``namespace/account``; None: in plaintext. ``token``: claims; None: without a token."""

    peer: str | None = WEB
    path: str = ""
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    token: dict[str, Any] | None = None
    source: str = "127.0.0.1"
    sni: str | None = None
    port: int = 8080


@dataclass(frozen=True, slots=True)
class Case:
    """``rule``, whose paths say ID where the case's own path stands; it gets them if it has none."""

    fields: tuple[str, ...]
    rule: dict[str, Any]
    takes: tuple[Try, ...]
    leaves: tuple[Try, ...]

    def rule_at(self, path: str) -> dict[str, Any]:
        rule: dict[str, Any] = json.loads(json.dumps(self.rule).replace("ID", path.removeprefix("/")))
        for one in rule.setdefault("to", [{"operation": {}}]):
            one["operation"].setdefault("paths", [path, f"{path}/*"])
        return rule


def source(name: str, values: list[str], takes: Try | tuple[Try, ...], leaves: Try | tuple[Try, ...]) -> Case:
    return Case((SOURCE + name,), {"from": [{"source": {name: values}}]}, _several(takes), _several(leaves))


def operation(name: str, values: list[str], takes: Try | tuple[Try, ...], leaves: Try | tuple[Try, ...]) -> Case:
    return Case((OPERATION + name,), {"to": [{"operation": {name: values}}]}, _several(takes), _several(leaves))


def when(
    key: str, values: list[str], takes: Try | tuple[Try, ...], leaves: Try | tuple[Try, ...], form: str = ""
) -> tuple[Case, Case]:
    """A condition on ``key``, and its opposite: what ``values`` take, ``notValues`` leave."""
    taken, left, name = _several(takes), _several(leaves), f"{WHEN}[{form or key}]"
    return (
        Case((name, f"{WHEN}[].values"), {"when": [{"key": key, "values": values}]}, taken, left),
        Case((name, f"{WHEN}[].notValues"), {"when": [{"key": key, "notValues": values}]}, left, taken),
    )


def _several(tries: Try | tuple[Try, ...]) -> tuple[Try, ...]:
    return tries if isinstance(tries, tuple) else (tries,)


def alice(**claims: Any) -> Try:
    return Try(token={"sub": "alice", **claims})


PLAIN = Try(peer=None)
OTHER = Try(peer="shop/batch")
FOREIGN = Try(peer="shopping/web")
BOB = Try(token={"sub": "bob"})
NO_TOKEN = Try()
_WEB_ID = "cluster.local/ns/shop/sa/web"
_FROM_2 = Try(source="127.0.0.2")


def forwarded(address: str) -> Try:
    return Try(headers={"x-forwarded-for": address})


def hosted(host: str) -> Try:
    return Try(headers={"host": host})


SOURCES: tuple[Case, ...] = (
    source("principals", [_WEB_ID], Try(), (OTHER, FOREIGN, PLAIN)),
    source("principals", ["cluster.local/ns/shop/*"], (Try(), OTHER), (FOREIGN, PLAIN)),
    source("principals", ["*/sa/web"], (Try(), FOREIGN), (OTHER, PLAIN)),
    source("principals", ["*"], (Try(), FOREIGN), PLAIN),
    source("notPrincipals", [_WEB_ID], (OTHER, PLAIN), Try()),
    source("namespaces", ["shop"], (Try(), OTHER), (FOREIGN, PLAIN)),
    source("namespaces", ["shop*"], (Try(), FOREIGN), (Try(peer="bank/web"), PLAIN)),
    source("notNamespaces", ["shop"], (FOREIGN, PLAIN), (Try(), OTHER)),
    source("serviceAccounts", ["web", "bank/batch"], (Try(), Try(peer="bank/batch")), (OTHER, FOREIGN, PLAIN)),
    source("notServiceAccounts", ["web"], (OTHER, FOREIGN, PLAIN), Try()),
    source("trustDomains", ["cluster.local"], Try(), PLAIN),
    source("trustDomains", ["other.example"], (), (Try(), PLAIN)),
    source("notTrustDomains", ["cluster.local"], PLAIN, Try()),
    source("ipBlocks", ["127.0.0.2"], _FROM_2, Try()),
    source("ipBlocks", ["127.0.0.0/30"], (_FROM_2, Try()), Try(source="127.0.0.9")),
    source("notIpBlocks", ["127.0.0.2"], Try(), _FROM_2),
    source("remoteIpBlocks", ["203.0.113.0/24"], forwarded("203.0.113.7"), (Try(), forwarded("198.51.100.1"))),
    source("notRemoteIpBlocks", ["203.0.113.0/24"], (Try(), forwarded("198.51.100.1")), forwarded("203.0.113.7")),
    source("requestPrincipals", [f"{ISSUER}/alice"], alice(), (BOB, NO_TOKEN)),
    source("requestPrincipals", [f"{ISSUER}/*"], (alice(), BOB), NO_TOKEN),
    source("requestPrincipals", ["*/alice"], alice(), (BOB, NO_TOKEN)),
    source("requestPrincipals", ["*"], (alice(), BOB), NO_TOKEN),
    source("notRequestPrincipals", [f"{ISSUER}/alice"], (BOB, NO_TOKEN), alice()),
    Case(
        (SOURCE + "principals", SOURCE + "notIpBlocks"),
        {"from": [{"source": {"principals": [_WEB_ID], "notIpBlocks": ["127.0.0.2"]}}]},
        (Try(),),
        (_FROM_2, OTHER),
    ),
    Case(
        (SOURCE + "principals", SOURCE + "namespaces"),
        {"from": [{"source": {"principals": [_WEB_ID]}}, {"source": {"namespaces": ["shopping"]}}]},
        (Try(), FOREIGN),
        (OTHER, PLAIN),
    ),
)

OPERATIONS: tuple[Case, ...] = (
    operation("hosts", ["api.example.com"], (hosted("api.example.com"), hosted("API.example.com")), Try()),
    operation("hosts", ["*.example.org"], hosted("a.b.example.org"), (Try(), hosted("example.org"))),
    operation("notHosts", ["api.example.com"], Try(), hosted("api.example.com")),
    operation("ports", ["8081"], Try(port=8081), Try()),
    operation("notPorts", ["8081"], Try(), Try(port=8081)),
    operation("methods", ["GET"], Try(), (Try(method="POST"), Try(method="HEAD"))),
    operation("methods", ["P*"], (Try(method="POST"), Try(method="PUT")), Try()),
    operation("notMethods", ["GET"], Try(method="POST"), Try()),
    operation(
        "paths",
        ["/ID/exact"],
        (Try(path="/exact"), Try(path="/exact?q=1"), Try(path="/x/../exact")),
        (Try(path="/exact/"), Try(path="/EXACT"), Try(path="/exact;x=1")),
    ),
    operation("paths", ["/ID/in/*"], (Try(path="/in/a"), Try(path="/in/a/b")), (Try(path="/in"), Try(path="/inn"))),
    operation("paths", ["*/ID/end"], (Try(path="/end"),), (Try(path="/end/more"), Try(path="/ending"))),
    operation(
        "paths",
        ["/ID/users/{*}/orders"],
        Try(path="/users/7/orders"),
        (Try(path="/users/orders"), Try(path="/users/7/8/orders")),
    ),
    operation("paths", ["/ID/all/{**}"], (Try(path="/all/a"), Try(path="/all/a/b")), Try(path="/al/a")),
    Case(
        (OPERATION + "notPaths",),
        {"to": [{"operation": {"paths": ["/ID/*"], "notPaths": ["/ID/secret*"]}}]},
        (Try(path="/open"),),
        (Try(path="/secret"), Try(path="/secrets/1"), Try(path="/open/../secret")),
    ),
    Case(
        (OPERATION + "methods", OPERATION + "hosts"),
        {"to": [{"operation": {"methods": ["POST"]}}, {"operation": {"hosts": ["api.example.com"]}}]},
        (Try(method="POST"), hosted("api.example.com")),
        (Try(),),
    ),
    Case(
        (OPERATION + "methods", SOURCE + "principals", f"{WHEN}[request.headers[NAME]]"),
        {
            "from": [{"source": {"principals": [_WEB_ID]}}],
            "to": [{"operation": {"methods": ["POST"]}}],
            "when": [{"key": "request.headers[x-team]", "values": ["blue"]}],
        },
        (Try(method="POST", headers={"x-team": "blue"}),),
        (
            Try(headers={"x-team": "blue"}),
            Try(method="POST"),
            Try(peer="shop/batch", method="POST", headers={"x-team": "blue"}),
        ),
    ),
)


def _team(*teams: str) -> Try:
    return Try(headers={"x-team": ",".join(teams)})


CONDITIONS: tuple[Case, ...] = (
    *when("source.ip", ["127.0.0.2/32"], _FROM_2, Try()),
    *when("remote.ip", ["203.0.113.0/24"], forwarded("203.0.113.7"), (Try(), forwarded("198.51.100.1"))),
    *when("source.namespace", ["shop"], (Try(), OTHER), (FOREIGN, PLAIN)),
    *when("source.principal", [_WEB_ID], Try(), (OTHER, FOREIGN, PLAIN)),
    *when("source.serviceAccount", ["shop/web"], Try(), (OTHER, FOREIGN, PLAIN)),
    *when("source.trustDomain", ["cluster.local"], (Try(), FOREIGN), PLAIN),
    *when("request.auth.principal", [f"{ISSUER}/alice"], alice(), (BOB, NO_TOKEN)),
    *when(
        "request.auth.audiences",
        ["orders"],
        (alice(aud="orders"), alice(aud=["bills", "orders"])),
        (alice(aud="bills"), alice(), NO_TOKEN),
    ),
    *when("request.auth.presenter", ["client-7"], alice(azp="client-7"), (alice(azp="client-8"), NO_TOKEN)),
    *when(
        "request.auth.claims[role]",
        ["admin", "op*"],
        (alice(role="admin"), alice(role="operator"), alice(role=["guest", "admin"])),
        (alice(role="guest"), alice(role=["guest"]), alice(), NO_TOKEN),
        form="request.auth.claims[NAME]",
    ),
    *when(
        "request.auth.claims[realm][roles]",
        ["admin"],
        alice(realm={"roles": ["admin", "x"]}),
        (alice(realm={"roles": ["x"]}), alice(roles=["admin"])),
        form="request.auth.claims[NAME]",
    ),
    *when(
        "request.auth.claims[scope]",
        ["orders:read"],
        alice(scope="bills:read orders:read"),
        alice(scope="orders:reader"),
        form="request.auth.claims[NAME]",
    ),
    *when("destination.ip", ["127.0.0.1"], Try(), ()),
    *when("destination.ip", ["192.0.2.0/24"], (), Try()),
    *when("destination.port", ["8081"], Try(port=8081), Try()),
    *when("connection.sni", ["orders.example.com"], Try(sni="orders.example.com"), (Try(sni="x.example.com"), Try())),
    *when("request.headers[X-Team]", ["blue"], _team("blue"), (_team("red"), Try()), form="request.headers[NAME]"),
    *when("request.headers[x-team]", ["*"], (_team("blue"), _team("red")), Try(), form="request.headers[NAME]"),
    *when("request.headers[x-team]", ["bl*"], _team("blue"), (_team("red"), Try()), form="request.headers[NAME]"),
    *when(
        "request.experimental.inline.headers[x-team]",
        ["blue"],
        (_team("blue"), _team("red", "blue")),
        (_team("red"), Try()),
        form="request.experimental.inline.headers[NAME]",
    ),
)

CASES = (*SOURCES, *OPERATIONS, *CONDITIONS)
