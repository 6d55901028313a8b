"""A gateway whose servers, one per host, ask their clients for certificates; and clients that show some."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.real.pki import Authority, Leaf
from tests.real.traffic import Manifest, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.traffic_credentials import secret
from tests.real.up import Up

ROOT, STRANGERS = Authority("clients' root"), Authority("strangers")
INTERMEDIATE = ROOT.intermediate("clients' intermediate")
SERVERS = Authority("servers")
REFUSED = 0


def named(name: str) -> str:
    return f"{name}.example.com"


def asking(name: str, mode: str = "MUTUAL", **tls: Any) -> Manifest:
    """A server of port 443 for the host ``name``, whose port has that name; ``clients`` is the Secret of its CAs."""
    if mode != "ISTIO_MUTUAL" and "serverCertificate" not in tls and "tlsCertificates" not in tls:
        tls = {"credentialName": "server", **tls} if "credentialNames" not in tls else tls
    if mode in ("MUTUAL", "OPTIONAL_MUTUAL") and "caCertificates" not in tls:
        tls = {"caCertCredentialName": "clients", **tls}
    return server(443, named(name), protocol="HTTPS", name=name, tls={"mode": mode, **tls})


def policy(name: str, *, section: str | None = None, target: str = "edge", **spec: Any) -> Manifest:
    """A ClientTrafficPolicy for the server of its name."""
    document = manifest("ClientTrafficPolicy", name, {"targetRefs": [reference(target, section or name)], **spec})
    return {**document, "apiVersion": "isthmus.dev/v1alpha1"}


def reference(gateway_name: str, section: str | None) -> Manifest:
    target = {"group": "networking.istio.io", "kind": "Gateway", "name": gateway_name}
    return target if section is None else {**target, "sectionName": section}


def validating(name: str, **validation: Any) -> Manifest:
    return policy(name, tls={"clientValidation": validation})


def pem(name: str, **data: bytes) -> Manifest:
    """A Secret; ``tls_crt`` stands for the key ``tls.crt``."""
    return secret(name, type="Opaque", data={key.replace("_", "."): value for key, value in data.items()})


def world(servers: list[Manifest], port: int, *more: Manifest) -> str:
    """A gateway with ``servers``, a certificate for all of their hosts, the clients' CA, and a service on ``port``."""
    leaf = SERVERS.issue("*.example.com")
    return dump(
        gateway("edge", *servers, selector={"app": "edge"}),
        routes("all", ["*.example.com"], {"route": [to("web")]}, gateways=["edge"]),
        service("web"),
        workload("web-1", port, {"app": "web"}),
        pem("server", tls_crt=leaf.chain, tls_key=leaf.key),
        pem("clients", ca_crt=ROOT.pem),
        *more,
    )


class Clients:
    """Sends requests, each with a connection of its own."""

    def __init__(self, up: Up, folder: Path) -> None:
        self._up = up
        self._folder = folder

    def context(self, leaf: Leaf | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=SERVERS.pem.decode())
        if leaf is not None:
            context.load_cert_chain(leaf.written(self._folder, uuid.uuid4().hex))
        return context

    def send(
        self, name: str, leaf: Leaf | None, context: ssl.SSLContext | None = None, path: str = "/"
    ) -> httpx.Response | None:
        """The answer; None: the connection was refused before there could be one."""
        with httpx.Client(verify=context or self.context(leaf), trust_env=False, timeout=20) as client:
            try:
                return self._up.send(client, "GET", f"https://{named(name)}{path}")
            except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError):
                return None

    def status(self, name: str, leaf: Leaf | None, path: str = "/") -> int:
        """Of the answer; REFUSED before there could be one."""
        answer = self.send(name, leaf, path=path)
        return REFUSED if answer is None else answer.status_code

    def refused(self, name: str, leaves: Mapping[str, Leaf | None]) -> set[str]:
        """Those of ``leaves`` that do not get in."""
        return set(self._refused(name, leaves))

    def _refused(self, name: str, leaves: Mapping[str, Leaf | None]) -> Iterator[str]:
        for called, leaf in leaves.items():
            if self.status(name, leaf) != 200:
                yield called
