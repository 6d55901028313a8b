"""A gateway, a sidecar or two and everything about them that changes while they serve."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from isthmus.proxy.place import Folders
from tests.real.answering import Answering
from tests.real.load import Load
from tests.real.manifests import service, workload_entry
from tests.real.up import Up, alive, arguments_of, children_of, eventually, isthmus

HOST = "app.example.com"
ISSUER = "https://auth.example.com"
GATEWAY, SIDECAR = "gateway~shop~edge", "sidecar~shop~app-1"
HTTP_SERVER = '    - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}\n'
HTTPS_SERVER = f"""\
    - port: {{number: 443, name: https, protocol: HTTPS}}
      hosts: [{HOST}]
      tls: {{mode: SIMPLE, credentialName: edge-tls}}
"""
STRICT = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: shop, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""


def gateway(servers: str = HTTP_SERVER + HTTPS_SERVER) -> str:
    return f"""\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  selector: {{istio: edge}}
  servers:
{servers}"""


def routes(edit: str, host: str = "app") -> str:
    """Nothing is tried again, so that every failure is seen. The answer says which edit is in force."""
    return f"""\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: app, namespace: shop}}
spec:
  hosts: [{HOST}]
  gateways: [edge]
  http:
    - retries: {{attempts: 0}}
      headers: {{response: {{set: {{x-edit: "{edit}"}}}}}}
      route: [{{destination: {{host: {host}}}}}]
"""


def deny(path: str) -> str:
    return f"""\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: deny, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: app}}}}
  action: DENY
  rules: [{{to: [{{operation: {{paths: [/{path}]}}}}]}}]
"""


def tokens(extra: str = "") -> str:
    return f"""\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: app}}}}
  jwtRules: [{{issuer: "{ISSUER}"{extra}}}]
"""


class Changing:
    """A running mesh under change."""

    def __init__(self, up: Up, app: Answering, other: Answering) -> None:
        self.up = up
        self.app = app
        self.other = other

    def load(self, port: int = 80, **options: Any) -> Load:
        trust = self.up.trust() if port == 443 else None
        if trust is not None:
            # Not the system's whole list for every new connection.
            trust.options |= ssl.OP_NO_COMPRESSION
        return Load(self.up.gateway(port), HOST, trust=trust, **options)

    def insecure_load(self, **options: Any) -> Load:
        """Over TLS, whatever certificate the gateway shows."""
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        return Load(self.up.gateway(443), HOST, trust=trust, **options)

    def shown(self) -> str:
        """The certificate that the gateway shows."""
        host, port = self.up.gateway(443)
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection((host, port), timeout=30) as plain,
            trust.wrap_socket(plain, server_hostname=HOST) as secured,
        ):
            return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")

    def edit(self, host: str = HOST) -> str | None:
        """Which edit of the routes answers."""
        return self._ask("/", host)[1]

    def status(self, path: str = "/", host: str = HOST) -> int:
        return self._ask(path, host)[0]

    def _ask(self, path: str, host: str) -> tuple[int, str | None]:
        connection = http.client.HTTPConnection(*self.up.gateway(80), timeout=20)
        try:
            connection.request("GET", path, headers={"host": host})
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers.get("x-edit")
        finally:
            connection.close()

    def config(self, proxy: str) -> str:
        """All that a proxy was given, as text."""
        return isthmus("config", "--state", str(self.up.state), proxy, "-o", "json").stdout

    def address_of(self, listener: str) -> str:
        """Where a listener of the gateway stands."""
        transport = httpx.HTTPTransport(uds=self.up.ready["gateways"][0]["admin_socket"], verify=False)
        with httpx.Client(transport=transport, timeout=30) as admin:
            listed: str = admin.get("http://envoy/listeners").text
        return next(line.partition("::")[2] for line in listed.splitlines() if line.startswith(f"{listener}::"))

    def change(self, number: int, seconds: float = 30.0) -> str:
        """The ``number``th of a row of edits to routes, endpoints and policies, until it is in force; which it was."""
        match number % 3:
            case 0:
                self.up.write("routes.yaml", routes(str(number)))
                eventually(lambda: self.edit() == str(number), seconds, every=0.01)
                return "route"
            case 1:
                self.up.write("deny.yaml", deny(f"no-{number}"))
                eventually(lambda: self.status(f"/no-{number}") == 403, seconds, every=0.01)
                return "policy"
        step = number // 3 % 4
        if step in (0, 3):
            self.endpoints(2 if step == 0 else 1)
            wanted = {"edge", "app-1", "app-2"} if step == 0 else {"edge", "app-1"}
            eventually(lambda: {proxy["name"] for proxy in self.proxies()} == wanted and self.in_sync(), seconds)
        else:
            weight = number + 2
            self.endpoints(2, weight)
            eventually(lambda: self.weighs(weight), seconds, every=0.02)
        return "endpoint"

    def weighs(self, weight: int) -> bool:
        """Whether the gateway has an endpoint of this weight."""
        transport = httpx.HTTPTransport(uds=self.up.ready["gateways"][0]["admin_socket"], verify=False)
        with httpx.Client(transport=transport, timeout=30) as admin:
            return f"::weight::{weight}\n" in admin.get("http://envoy/clusters").text

    def endpoints(self, count: int, weight: int = 1) -> None:
        """One or two workloads behind the service, each with a sidecar of its own."""
        self.up.write("app.yaml", endpoints(self.app, self.other, count, weight))

    def serves(self, name: str) -> bool:
        """Whether an endpoint of this name gets requests: its proxy runs and is in sync."""
        return any(proxy["name"] == name for proxy in self.proxies()) and self.in_sync()

    @property
    def runtime(self) -> Path:
        return Path(self.up.ready["gateways"][0]["admin_socket"]).parent

    def proxies(self) -> list[dict[str, Any]]:
        socket = str(self.runtime / "api.sock")
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket, verify=False), timeout=30) as api:
            found: list[dict[str, Any]] = api.get("http://api/v1/proxies").json()
        return found

    def in_sync(self) -> bool:
        return {proxy["state"] for proxy in self.proxies()} == {"SYNCED"}

    def pid(self, part: str) -> int:
        """``serve``, ``agent``, or the Envoy of a proxy id."""
        for pid in children_of(self.up.process.pid):
            if self.is_part(pid, part):
                return pid
        raise AssertionError(f"{part} does not run")

    def is_part(self, pid: int, part: str) -> bool:
        bootstrap = str(Folders(self.up.state, self.runtime).bootstrap(part))
        arguments = arguments_of(pid)
        return bootstrap in arguments or arguments[1:4] == ["-m", "isthmus", part]

    def kill(self, part: str) -> int:
        """SIGKILL; the pid that was."""
        pid = self.pid(part)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not alive(pid))
        return pid

    def serials(self) -> set[str]:
        """Of every certificate that an Envoy holds now."""
        found = set[str]()
        for proxy in (*self.up.ready["gateways"], *self.up.ready["workloads"]):
            transport = httpx.HTTPTransport(uds=proxy["admin_socket"], verify=False)
            with httpx.Client(transport=transport, timeout=30) as admin:
                held = admin.get("http://envoy/certs").json()["certificates"]
            found |= {chain["serial_number"] for one in held for chain in one.get("cert_chain", ())}
        return found


def endpoints(app: Answering, other: Answering, count: int, weight: int = 1) -> str:
    parts = [service("app", "shop"), workload_entry("app-1", "shop", "app", app.port, account="app")]
    if count > 1:
        second = workload_entry("app-2", "shop", "app", other.port, account="app")
        parts.append(second.rstrip() + f"\n  weight: {weight}\n")
    return "---\n".join(parts)


def manifests(app: Answering, other: Answering) -> dict[str, str]:
    return {
        "gateway.yaml": gateway(),
        "strict.yaml": STRICT,
        "app.yaml": endpoints(app, other, 1),
        "routes.yaml": routes("0"),
        "deny.yaml": deny("no"),
        "tokens.yaml": tokens(),
    }


@contextmanager
def changing(
    folder: Path, *options: str, extra: Mapping[str, str] | None = None, through: tuple[str, ...] = ()
) -> Iterator[Changing]:
    with Answering("one") as app, Answering("two") as other:
        with Up(folder, manifests(app, other) | dict(extra or {}), *options, through=through) as up:
            yield Changing(up, app, other)
