"""What the tests of the traffic kinds share: manifests as values, backends that do as they are told, callers."""

from __future__ import annotations

import math
import threading
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.real.backend import Backend, Reply, header
from tests.real.up import eventually

Manifest = dict[str, Any]
NAMESPACE = "shop"
_NETWORKING = "networking.istio.io/v1"
_VERSIONS = {
    **dict.fromkeys(("Service", "Secret", "ConfigMap", "Namespace"), "v1"),
    "Deployment": "apps/v1",
    "LocalWorkload": "isthmus.dev/v1alpha1",
    "RateLimitPolicy": "isthmus.dev/v1alpha1",
    "PeerAuthentication": "security.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
}


def manifest(kind: str, name: str, spec: Any, namespace: str = NAMESPACE, **metadata: Any) -> Manifest:
    """A document of ``kind``. ``metadata``: labels, annotations."""
    about = {"name": name, "namespace": namespace, **metadata}
    return {"apiVersion": _VERSIONS.get(kind, _NETWORKING), "kind": kind, "metadata": about, "spec": spec}


def dump(*manifests: Manifest) -> str:
    return str(yaml.safe_dump_all(manifests, sort_keys=False))


def gateway(name: str, *servers: Manifest, namespace: str = NAMESPACE, selector: Manifest | None = None) -> Manifest:
    """A Gateway with a proxy of its own, unless ``selector`` says whose."""
    return manifest("Gateway", name, {"selector": selector or {"istio": name}, "servers": list(servers)}, namespace)


def server(number: int, *hosts: str, protocol: str = "HTTP", name: str | None = None, **more: Any) -> Manifest:
    port = {"number": number, "name": name or f"{protocol.lower()}-{number}", "protocol": protocol}
    return {"port": port, "hosts": list(hosts or ("*",)), **more}


def routes(
    name: str, hosts: list[str], *http: Manifest, gateways: list[str] | None = None, namespace: str = NAMESPACE
) -> Manifest:
    """A VirtualService; for the mesh, unless ``gateways`` says otherwise."""
    spec: Manifest = {"hosts": hosts, "http": list(http)}
    if gateways is not None:
        spec["gateways"] = gateways
    return manifest("VirtualService", name, spec, namespace)


def to(host: str, port: int | None = None, subset: str | None = None, **more: Any) -> Manifest:
    """One entry of ``http[].route``."""
    destination: Manifest = {"host": host}
    if port is not None:
        destination["port"] = {"number": port}
    if subset is not None:
        destination["subset"] = subset
    return {"destination": destination, **more}


def service(name: str, namespace: str = NAMESPACE, **spec: Any) -> Manifest:
    """A Service on port 80 for the workloads with ``app: name``."""
    return manifest(
        "Service", name, {"selector": {"app": name}, "ports": [{"name": "http", "port": 80}], **spec}, namespace
    )


def workload(name: str, port: int, labels: Mapping[str, str], namespace: str = NAMESPACE, **spec: Any) -> Manifest:
    """A WorkloadEntry of this machine, whose program listens on ``port``."""
    where = {"address": "127.0.0.1", "ports": {"http": port}, "labels": dict(labels)}
    return manifest("WorkloadEntry", name, {**where, **spec}, namespace)


def caller(name: str, folder: Path, namespace: str = NAMESPACE, **spec: Any) -> Manifest:
    """A LocalWorkload that does nothing but write down what it is told, for a :class:`Caller`."""
    script = 'env > "$0.new" && mv "$0.new" "$0" && exec sleep 3600'
    command = ["sh", "-c", script, str(folder / f"{namespace}-{name}.env")]
    # Its proxy is used from outside, by the test itself.
    return manifest("LocalWorkload", name, {"command": command, "network": "Host", **spec}, namespace)


def outbound_policy(mode: str) -> str:
    """The mesh configuration with an outboundTrafficPolicy."""
    document = manifest("ConfigMap", "istio", None, "istio-system")
    del document["spec"]
    return dump({**document, "data": {"mesh": f"outboundTrafficPolicy: {{mode: {mode}}}"}})


class Caller:
    """Calls as the workload that ``caller`` declared: through its own proxy, with its credential."""

    def __init__(self, name: str, folder: Path, namespace: str = NAMESPACE) -> None:
        file = folder / f"{namespace}-{name}.env"
        eventually(file.exists)
        self.env = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
        self.client = httpx.Client(proxy=self.env["http_proxy"], timeout=20, trust_env=False, verify=False)

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.client.get(url, **options)

    def status(self, url: str, **options: Any) -> int:
        return self.get(url, **options).status_code


class Obedient:
    """Answers as the request asks: ``x-answer`` (a status), ``x-grpc`` (a gRPC status), ``x-delay`` (seconds).

    Each is a list with commas, for one attempt after the other; the last holds on. Attempts are told by ``x-try``.
    """

    def __init__(self) -> None:
        self._attempts: Counter[str | None] = Counter()
        self._lock = threading.Lock()

    def __call__(self, saw: dict[str, Any]) -> Reply:
        name = header(saw, "x-try")
        with self._lock:
            attempt = self._attempts[name]
            self._attempts[name] += 1

        def told(what: str, otherwise: str) -> str:
            values = (header(saw, what) or otherwise).split(",")
            return values[min(attempt, len(values) - 1)].strip()

        grpc = told("x-grpc", "")
        return Reply(
            status=int(told("x-answer", "200")),
            headers=(
                ("x-backend", saw["backend"]),
                ("x-removable", "yes"),
                ("x-set", "by backend"),
                *((("grpc-status", grpc),) if grpc else ()),
            ),
            delay_seconds=float(told("x-delay", "0")),
        )


class Try:
    """One request with a name of its own, so that what a backend saw of it can be counted."""

    def __init__(self, *backends: Backend, **told: str) -> None:
        self._name = uuid.uuid4().hex
        self._backends = backends
        self.headers = {"x-try": self._name, **{name.replace("_", "-"): value for name, value in told.items()}}

    @property
    def seen(self) -> list[dict[str, Any]]:
        return [saw for backend in self._backends for saw in tuple(backend.seen) if header(saw, "x-try") == self._name]


def within_bounds(found: int, asked: int, share: float, rarely: float = 1e-7) -> bool:
    """Whether ``found`` of ``asked`` is no further off than a fair choice is but ``rarely``: exact binomial tails."""

    def probability(count: int) -> float:
        ways = math.lgamma(asked + 1) - math.lgamma(count + 1) - math.lgamma(asked - count + 1)
        return math.exp(ways + count * math.log(share) + (asked - count) * math.log1p(-share))

    below = sum(probability(count) for count in range(found + 1))
    above = sum(probability(count) for count in range(found, asked + 1))
    return min(below, above) > rarely / 2
