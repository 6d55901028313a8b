"""A site behind logins, and a browser of sorts."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.real.backend import Backend
from tests.real.client_authentication import jwt
from tests.real.openid_provider import Provider, mock_provider
from tests.real.pki import Authority
from tests.real.traffic import Manifest, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.up import Up, development_jwks, eventually, free_port

SECRET = "a client's own secret"
TOLD_SECRET = "another secret: with a colon"
BEARERS = "https://bearers.example.com"
SHOP, OTHER = "shop.example.com", "other.example.com"
AUTHORITY, STRANGERS = Authority("providers"), Authority("strangers")
PATHS = ("mock", "own", "mixed", "lying", "told", "strange", "open", "late")


def login(name: str, issuer: str, *, table: str = "shop", **oidc: Any) -> Manifest:
    """A ClientAuthentication with a login: for the http route of its name, with paths below its own; or ``table``."""
    given = {"issuer": issuer, "clientId": "shop", "clientSecretRef": {"name": "shop-oidc"}, **oidc}
    target = {"kind": "VirtualService", "name": table}
    if table == "shop":
        target["sectionName"] = name
        given = {"redirectPath": f"/{name}/callback", "logoutPath": f"/{name}/logout", **given}
    document = manifest("ClientAuthentication", name, {"targetRefs": [target], "methods": [{"oidc": given}]})
    return {**document, "apiVersion": "isthmus.dev/v1alpha1"}


def client_secret(name: str = "shop-oidc", key: str = "client-secret", value: str = SECRET) -> Manifest:
    document = manifest("Secret", name, None)
    del document["spec"]
    return {**document, "apiVersion": "v1", "stringData": {key: value}}


class Browser:
    """Keeps cookies as a browser does, host by host, and follows no redirect by itself."""

    def __init__(self, trust: ssl.SSLContext, port: int) -> None:
        """``port``: that of the gateway, on this machine."""
        self.set_cookies: list[str] = []
        self._trust = trust
        self._port = port
        self.jars: dict[str, dict[str, str]] = {}

    def get(self, url: str, accept: str = "text/html", method: str = "GET", **headers: str) -> httpx.Response:
        """``url`` of the site (https), or of a provider (http)."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if host == "localhost":
            return httpx.get(url, trust_env=False, timeout=20, verify=self._trust)
        jar = self.jars.setdefault(host, {})
        sent = {"host": parts.netloc, "accept": accept, **{name.replace("_", "-"): v for name, v in headers.items()}}
        if jar and "cookie" not in sent:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        target = f"https://127.0.0.1:{self._port}{parts.path}{'?' + parts.query if parts.query else ''}"
        with httpx.Client(verify=self._trust, trust_env=False, timeout=20) as client:
            response = client.request(method, target, headers=sent, extensions={"sni_hostname": host})
        self._take(jar, response)
        return response

    def follow(self, url: str, most: int = 10) -> httpx.Response:
        """With its redirects, wherever they lead."""
        for _ in range(most):
            response = self.get(url)
            if response.status_code != 302:
                return response
            url = response.headers["location"]
        raise AssertionError(f"more than {most} redirects, the last to {url}")

    def _take(self, jar: dict[str, str], response: httpx.Response) -> None:
        for line in response.headers.get_list("set-cookie"):
            self.set_cookies.append(line)
            for name, morsel in SimpleCookie(line).items():
                # A browser takes no __Host- cookie but a secure one of the whole host.
                assert not name.startswith("__Host-") or (
                    morsel["path"] == "/" and not morsel["domain"] and (morsel["secure"] or "1970" in morsel["expires"])
                )
                if morsel["max-age"] == "0" or "1970" in morsel["expires"]:
                    if morsel["secure"] or not name.startswith("__Host-"):
                        jar.pop(name, None)
                else:
                    jar[name] = morsel.value if "=" not in line.split(";")[0] else line.split(";")[0].partition("=")[2]


@dataclass(frozen=True, slots=True)
class Site:
    """``mock``, ``own``: issuers. ``backend``: the program behind the gateway."""

    up: Up
    trust: ssl.SSLContext
    backend: Backend
    mock: str
    own: Provider
    lost: Provider
    told: Provider
    port: int

    def browser(self) -> Browser:
        return Browser(self.trust, self.port)

    def url(self, path: str, host: str = SHOP) -> str:
        return f"https://{host}:{self.port}{path}"

    def reason(self, path: str) -> str:
        """Of the refusal of the newest request that was refused and whose path begins so."""

        def find() -> str:
            lines = self.up.access_log("gateway~shop~edge")
            refused = [one for one in lines if str(one["path"]).startswith(path) and one["status"] >= 400]
            return str(refused[-1]["reason"]) if refused else ""

        return str(eventually(find, 60))


def world(port: int, jwks: str, *policies: Manifest) -> str:
    """A gateway with two hosts, the first with a route for each path, the second with one for all."""
    http = [{"name": path, "match": [{"uri": {"prefix": f"/{path}"}}], "route": [to("web")]} for path in PATHS]
    rules = [{"issuer": BEARERS, "jwks": jwks, "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}]}]
    https = server(
        443, SHOP, OTHER, protocol="HTTPS", name="https", tls={"mode": "SIMPLE", "credentialName": "development"}
    )
    return dump(
        gateway("edge", https, selector={"app": "edge"}),
        routes("shop", [SHOP], *http, gateways=["edge"]),
        routes("other", [OTHER], {"name": "other", "route": [to("web")]}, gateways=["edge"]),
        service("web"),
        workload("web-1", port, {"app": "web"}),
        manifest("RequestAuthentication", "bearers", {"selector": {"matchLabels": {"app": "edge"}}, "jwtRules": rules}),
        client_secret(),
        client_secret("told", "password", TOLD_SECRET),
        *policies,
    )


def endpoints(provider: Provider) -> dict[str, str]:
    at = provider.issuer
    return {"authorization": f"{at}/authorize", "token": f"{at}/token", "jwks": f"{at}/jwks", "endSession": f"{at}/end"}


def log_in(site: Site, browser: Browser, path: str = "/mock/page", host: str = SHOP) -> httpx.Response:
    """What is there once alice has logged in."""
    asked = browser.get(site.url(path, host))
    assert asked.status_code == 302, asked.text
    location = asked.headers["location"]
    if location.startswith(site.mock):
        location = httpx.post(location, data={"sub": "alice"}, trust_env=False, timeout=30, verify=False).headers[
            "location"
        ]
    return browser.follow(location)


def seen(response: httpx.Response, name: str) -> str | None:
    """A header, as the program saw it."""
    return next((value for key, value in response.json()["headers"] if key == name), None)


def callback(site: Site, browser: Browser, path: str = "/mock/page") -> str:
    """Where the provider leads back to."""
    location = str(browser.get(site.url(path)).headers["location"])
    if location.startswith(site.mock):
        return str(
            httpx.post(location, data={"sub": "alice"}, trust_env=False, timeout=30, verify=False).headers["location"]
        )
    return str(browser.get(location).headers["location"])


STAFF = manifest(
    "AuthorizationPolicy",
    "staff",
    {
        "selector": {"matchLabels": {"app": "edge"}},
        "action": "DENY",
        "rules": [
            {
                "to": [{"operation": {"paths": ["/own/staff"]}}],
                "when": [{"key": "request.auth.claims[groups]", "notValues": ["staff"]}],
            }
        ],
    },
)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Site]:
    """All of it."""
    jwks = development_jwks(folder / "state", folder / "jwks.json").read_text()
    own, lost = Provider(), Provider(discovery={"issuer": "https://elsewhere.example.com"})
    told, strange = Provider(lifetime_seconds=3), Provider()
    identity = AUTHORITY.issue("localhost").written(folder, "provider")
    stranger = STRANGERS.issue("localhost").written(folder, "stranger")
    roots = folder / "roots.pem"
    roots.write_bytes(AUTHORITY.pem)
    with (
        mock_provider() as mock,
        own.running(identity),
        lost.running(),
        told.running(identity),
        strange.running(stranger),
        Backend() as backend,
    ):
        mixed = login("mixed", own.issuer)
        mixed["spec"]["methods"].append(jwt(BEARERS))
        told_secret, tenant = {"name": "told", "key": "password"}, {"prefix": "tenant", "sameSite": "NONE"}
        post = {"clientId": "other", "clientAuth": "CLIENT_SECRET_POST", "forwardToken": "ACCESS", "refresh": False}
        own_login = {"postLogoutRedirect": "/open/bye", "allowedRedirectDomains": ["*.partner.example.org"]}
        own_login |= {"outputClaimToHeaders": [{"header": "x-login-user", "claim": "sub"}]}
        policies = (
            login("mock", mock, scopes=["email"], redirectPath="/oauth2/callback", logoutPath="/logout"),
            login("own", own.issuer, forwardToken="ID", **own_login),
            mixed,
            login("lying", lost.issuer),
            login("told", "urn:told", clientSecretRef=told_secret, endpoints=endpoints(told), sessionLifetime="900s"),
            login("strange", "urn:strange", endpoints=endpoints(strange)),
            login("other", own.issuer, table="other", cookies=tenant, **post),
        )
        port = free_port()
        manifests = {"shop.yaml": world(backend.port, jwks, *policies, STAFF)}
        with Up(folder, manifests, "-p", f"{port}:443", env={"SSL_CERT_FILE": str(roots)}) as up:
            trust = up.trust()
            trust.load_verify_locations(cadata=(AUTHORITY.pem + STRANGERS.pem).decode())
            found = Site(up, trust, backend, mock, own, lost, told, port)
            eventually(lambda: found.browser().get(found.url("/own/")).status_code == 302, 60)
            yield found
