"""What the tests of limits share: hosts of a gateway with one RateLimitPolicy each, clients of several addresses."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import httpx

from tests.real.backend import Reply, header
from tests.real.traffic import NAMESPACE, Manifest, manifest, routes, to
from tests.real.up import Up

ISSUER = "https://auth.example.com"


def limit(name: str, **spec: Any) -> Manifest:
    """Two in an hour, unless ``spec`` says otherwise: none comes back while a test runs."""
    return {"name": name, "requests": 2, "per": "1h", **spec}


def targeting(name: str, *targets: Manifest, namespace: str = NAMESPACE, **spec: Any) -> Manifest:
    """A policy for Gateways or VirtualServices; of none: for the VirtualService of its own name."""
    wanted = list(targets or ({"group": "networking.istio.io", "kind": "VirtualService", "name": name},))
    return manifest("RateLimitPolicy", name, {"targetRefs": wanted, **spec}, namespace)


def limited(name: str, gateways: tuple[str, ...] = ("edge",), **spec: Any) -> tuple[Manifest, Manifest]:
    """A host of the gateways, and its policy."""
    return routes(name, [host(name)], {"route": [to("web")]}, gateways=list(gateways)), targeting(name, **spec)


def host(name: str) -> str:
    return f"{name}.example.com"


class Asking:
    """Clients of a running mesh, each by its own address of this machine."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self._clients: dict[str, httpx.Client] = {}

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def ask(
        self,
        name: str,
        path: str = "/",
        *,
        port: int = 80,
        method: str = "GET",
        address: str = "127.0.0.1",
        **headers: str,
    ) -> httpx.Response:
        """One request to a host of the gateway's ``port``."""
        client = self._clients.get(address)
        if client is None:
            transport = httpx.HTTPTransport(local_address=address, verify=False)
            client = self._clients[address] = httpx.Client(
                transport=transport, timeout=20, trust_env=False, verify=False
            )
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.up.send(client, method, f"http://{host(name)}:{port}{path}", headers=named)

    def statuses(self, name: str, count: int, path: str = "/", **options: Any) -> list[int]:
        """Of ``count`` requests, one after the other."""
        return [self.ask(name, path, **options).status_code for _ in range(count)]

    def logged(self, proxy: str, name: str) -> list[Mapping[str, Any]]:
        """The lines of a host in a proxy's access log."""
        return [line for line in self.up.access_log(proxy) if str(line["authority"]).startswith(f"{host(name)}")]

    def metrics(self, proxy: str) -> str:
        """What Prometheus would get of one proxy."""
        answer = httpx.get(
            f"{self.up.ready['control_plane']['http']}/metrics/proxies/{proxy}",
            trust_env=False,
            timeout=30,
            verify=False,
        )
        answer.raise_for_status()
        return answer.text


class Gate:
    """Holds the requests that say so, until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = threading.Semaphore(0)

    def __call__(self, saw: dict[str, object]) -> Reply:
        if header(saw, "x-hold"):
            self.inside.release()
            self.open.wait(120)
        return Reply(503 if header(saw, "x-fail") else 200)


def within_a_day() -> None:
    """Quotas begin anew at midnight (UTC): wait for it where it is near."""
    left = 86_400 - time.time() % 86_400
    if left < 90:
        time.sleep(left + 1)


def bearer(token: str) -> str:
    return f"Bearer {token}"
