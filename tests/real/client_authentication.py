"""A gateway whose http routes take different credentials: the route's name says which, and is its path, too."""

from __future__ import annotations

import ssl
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.real.edge import ROOT, SERVERS, named, pem
from tests.real.fields_peer import bearer
from tests.real.pki import Leaf
from tests.real.traffic import Manifest, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.up import Up, eventually

HOST, PLAIN = "shop", "plain.example.com"
FIRST, SECOND, OPAQUE = (f"https://{name}.example.com" for name in ("first", "second", "opaque"))


def authentication(name: str, *methods: Manifest, route: str | None = None, **spec: Any) -> Manifest:
    """A ClientAuthentication for the http route of its name, or for what ``spec`` says."""
    if "selector" not in spec and "targetRefs" not in spec:
        spec["targetRefs"] = [{"kind": "VirtualService", "name": "shop", "sectionName": route or name}]
    document = manifest("ClientAuthentication", name, {**spec, "methods": list(methods)})
    return {**document, "apiVersion": "isthmus.dev/v1alpha1"}


def jwt(*issuers: str, **more: Any) -> Manifest:
    return {"jwt": {"issuers": list(issuers), **more}}


def issuers(jwks: str, *names: str, app: str = "edge", **rule: Any) -> Manifest:
    """The RequestAuthentication of the gateway, or of another ``app``."""
    rules = [{"issuer": name, "jwks": jwks, **rule} for name in names]
    spec = {"selector": {"matchLabels": {"app": app}}, "jwtRules": rules}
    return manifest("RequestAuthentication", f"issuers-of-{app}", spec)


def world(port: int, paths: tuple[str, ...], *more: Manifest, first: tuple[Manifest, ...] = ()) -> str:
    """A gateway that asks for certificates and needs none, a VirtualService with a route for each path, a program.

    ``first``: routes before those.
    """
    leaf = SERVERS.issue("*.example.com")
    tls = {"mode": "OPTIONAL_MUTUAL", "credentialName": "server", "caCertCredentialName": "clients"}
    http = [{"name": path, "match": [{"uri": {"prefix": f"/{path}"}}], "route": [to("web")]} for path in paths]
    return dump(
        gateway(
            "edge",
            server(443, named(HOST), protocol="HTTPS", name="https", tls=tls),
            server(80, PLAIN, name="plain"),
            selector={"app": "edge"},
        ),
        routes("shop", [named(HOST), PLAIN], *first, *http, gateways=["edge"]),
        service("web"),
        workload("web-1", port, {"app": "web"}),
        pem("server", tls_crt=leaf.chain, tls_key=leaf.key),
        pem("clients", ca_crt=ROOT.pem),
        *more,
    )


@dataclass(frozen=True, slots=True)
class Told:
    """What the gateway answered, and where it stands in its log."""

    shop: Shop
    response: httpx.Response
    path: str

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def line(self) -> dict[str, Any]:
        """Of the access log."""
        found = eventually(lambda: [one for one in self.shop.log() if str(one["path"]).startswith(self.path)], 30)
        return dict(found[0])

    @property
    def refused(self) -> tuple[int, str]:
        """Status and reason."""
        return self.status, str(self.line["reason"])

    def seen(self, name: str) -> list[str]:
        """The values of a header, as the program saw them."""
        return [value for key, value in self.response.json()["headers"] if key == name]


class Shop:
    """Sends requests, each with a connection of its own, and knows why they were refused."""

    def __init__(self, up: Up, folder: Path) -> None:
        self.up = up
        self._folder = folder

    def token(self, issuer: str = FIRST, **claims: Any) -> str:
        return bearer(self.up, issuer, **claims)

    def ask(
        self, route: str, leaf: Leaf | None = None, *, bearer: str | None = None, query: str = "", **headers: str
    ) -> Told:
        """``headers``: ``x_case`` is ``x-case``."""
        context = ssl.create_default_context(cadata=SERVERS.pem.decode())
        if leaf is not None:
            context.load_cert_chain(leaf.written(self._folder, uuid.uuid4().hex))
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if bearer is not None:
            given["authorization"] = f"Bearer {bearer}"
        path = f"/{route}/{uuid.uuid4().hex}"
        with httpx.Client(verify=context, trust_env=False, timeout=20) as client:
            response = self.up.send(client, "GET", f"https://{named(HOST)}{path}{query}", headers=given)
        return Told(self, response, path)

    def log(self) -> list[dict[str, Any]]:
        return self.up.access_log("gateway~shop~edge")
