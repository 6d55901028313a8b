"""A mesh in which every request can be refused, each for a reason of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.real.backend import Reply, header
from tests.real.fields_authz import mesh_config
from tests.real.traffic import Manifest, gateway, manifest, routes, server, service, to, workload

HOST = "web.example.com"
ISSUERS = {name: f"https://{name}.example.com" for name in ("known", "aud", "away")}
PLAIN, TOLD, MUTE = 8080, 8081, 8082
"""Ports of the gateway: without problem documents, with the reason in them, and without it."""
JOB = "spiffe://cluster.local/ns/shop/sa/job"
GONE = "spiffe://cluster.local/ns/shop/sa/gone"
STRANGER = "spiffe://cluster.local/ns/other/sa/stranger"


def answer(saw: dict[str, Any]) -> Reply:
    """``/slow`` answers late."""
    return Reply(delay_seconds=1.5 if saw["path"].startswith("/slow") else 0)


def decide(saw: dict[str, Any]) -> Reply:
    """An external authorizer: it refuses whom the header says."""
    return Reply(status=402 if header(saw, "x-refuse") else 200)


@contextmanager
def breaking() -> Iterator[int]:
    """A server that promises more than it sends; its port."""

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 500 Broken\r\ncontent-length: 1000\r\n\r\nonly this")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def world(jwks: str, ports: dict[str, int]) -> list[Manifest]:
    """``ports``: of the programs ``web``, ``authz``, ``broken`` and ``nobody``, where nobody listens."""
    return [
        *at_the_gateway(jwks),
        *behind_it(ports),
        manifest(
            "AuthorizationPolicy",
            "jobs",
            {
                "selector": {"matchLabels": {"app": "web"}},
                "rules": [
                    {"from": [{"source": {"principals": ["cluster.local/ns/shop/sa/edge"]}}]},
                    {
                        "from": [{"source": {"principals": [JOB.removeprefix("spiffe://")]}}],
                        "to": [{"operation": {"paths": ["/jobs"]}}],
                    },
                ],
            },
        ),
        manifest(
            "AuthorizationPolicy",
            "queue",
            {
                "selector": {"matchLabels": {"app": "queue"}},
                "rules": [{"from": [{"source": {"principals": [JOB.removeprefix("spiffe://")]}}]}],
            },
        ),
    ]


def at_the_gateway(jwks: str) -> Iterator[Manifest]:
    """Its servers and what its policies forbid."""
    secured = server(8443, "a.example.com", protocol="HTTPS", tls={"mode": "SIMPLE", "credentialName": "a"})
    yield gateway("edge", *(server(port) for port in (PLAIN, TOLD, MUTE)), secured)
    for port, errors in {TOLD: {"format": "PROBLEM_JSON", "reason": True}, MUTE: {"format": "PROBLEM_JSON"}}.items():
        target = {"kind": "Gateway", "name": "edge", "sectionName": f"http-{port}"}
        policy = manifest("ClientTrafficPolicy", f"errors-{port}", {"targetRefs": [target], "errors": errors})
        yield {**policy, "apiVersion": "isthmus.dev/v1alpha1"}
    keys: dict[str, dict[str, Any]] = {
        "known": {"jwks": jwks},
        "aud": {"jwks": jwks, "audiences": ["orders"]},
        "away": {"jwksUri": "http://127.0.0.1:1/keys"},
    }
    selector = {"matchLabels": {"istio": "edge"}}
    rules = [{"issuer": ISSUERS[name], **where} for name, where in keys.items()]
    yield manifest("RequestAuthentication", "tokens", {"selector": selector, "jwtRules": rules})
    yield manifest(
        "AuthorizationPolicy", "forbidden", {"selector": selector, "action": "DENY", "rules": [path("/forbidden")]}
    )
    target = {"kind": "VirtualService", "name": "web", "sectionName": "scoped"}
    scoped = {"targetRefs": [target], "rules": [{"methods": ["GET"], "scopes": ["orders:read"]}]}
    yield {**manifest("AccessPolicy", "scoped", scoped), "apiVersion": "isthmus.dev/v1alpha1"}
    unlisted = {"to": [{"operation": {"notPaths": ["/unlisted"]}}]}
    yield manifest("AuthorizationPolicy", "listed", {"selector": selector, "rules": [unlisted]})
    for provider in ("asked", "small", "dead", "nobody"):
        custom = {"action": "CUSTOM", "provider": {"name": provider}, "rules": [path(f"/{provider}")]}
        yield manifest("AuthorizationPolicy", f"ask-{provider}", {"selector": selector, **custom})


def path(written: str) -> Manifest:
    return {"to": [{"operation": {"paths": [written]}}]}


def behind_it(ports: dict[str, int]) -> Iterator[Manifest]:
    """Services that answer, and that do not."""
    for name in ("web", "broken", "nobody"):
        yield service(name)
        yield workload(name, ports[name], {"app": name})
    yield service("authz", ports=[{"name": "http", "port": 9000}, {"name": "http-dead", "port": 9009}])
    yield workload(
        "authz", ports["authz"], {"app": "authz"}, ports={"http": ports["authz"], "http-dead": ports["nobody"]}
    )
    yield service("queue", ports=[{"name": "tcp", "port": 7000}])
    yield workload("queue", ports["web"], {"app": "queue"}, ports={"tcp": ports["web"]})
    # Over one connection at a time, and none may wait: of two requests at once, one overflows.
    yield service("narrow")
    yield workload("narrow", ports["web"], {"app": "narrow"})
    pool = {"http": {"http1MaxPendingRequests": 1, "http2MaxRequests": 1}}
    yield manifest("DestinationRule", "narrow", {"host": "narrow", "trafficPolicy": {"connectionPool": pool}})
    elsewhere = [
        {"match": [{"uri": {"prefix": f"/{name}"}}], "route": [to(name)], "retries": {"attempts": 0}}
        for name in ("broken", "nobody")
    ]
    narrow = {"match": [{"headers": {"x-narrow": {"exact": "yes"}}}], "route": [to("narrow")]}
    hasty = {"match": [{"uri": {"prefix": "/slow/hasty"}}], "route": [to("web")], "timeout": "0.2s"}
    given = {"match": [{"uri": {"prefix": "/given"}}], "directResponse": {"status": 403, "body": {"string": "mine"}}}
    scoped = {"name": "scoped", "match": [{"uri": {"prefix": "/scoped"}}], "route": [to("web")]}
    yield routes(
        "web",
        [HOST, "a.example.com"],
        *elsewhere,
        narrow,
        hasty,
        given,
        scoped,
        {"route": [to("web")]},
        gateways=["edge"],
    )


def providers() -> str:
    """The mesh configuration."""
    where = {"service": "authz.shop.svc.cluster.local"}
    small = {"includeRequestBodyInCheck": {"maxRequestBytes": 8}}
    known = {
        "asked": {"port": 9000, "includeRequestHeadersInCheck": ["x-refuse"]},
        "small": {"port": 9000, **small},
        "dead": {"port": 9009},
    }
    return mesh_config(
        outboundTrafficPolicy={"mode": "REGISTRY_ONLY"},
        extensionProviders=[{"name": name, "envoyExtAuthzHttp": {**where, **one}} for name, one in known.items()],
    )
