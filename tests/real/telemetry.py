"""What the tests of telemetry share: the demo's shop with a receiver of its telemetry beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from isthmus.demo.run import Prepared, prepare
from tests.real.otlp import Receiver
from tests.real.traffic import Manifest, dump, manifest
from tests.real.up import Up, eventually

HOST = "shop.example.com"
ROOT = "istio-system"
OTEL = "otel.istio-system.svc.cluster.local"


def mesh_config(config: Mapping[str, Any]) -> Manifest:
    found = manifest("ConfigMap", "istio", None, ROOT)
    del found["spec"]
    # JSON is YAML, and keeps every text as it is.
    return found | {"data": {"mesh": json.dumps(config)}}


def receiver_entry(receiver: Receiver, name: str = "otel") -> Manifest:
    """A ServiceEntry for ``receiver``: gRPC on its port, HTTP on the other."""
    ports = [
        {"number": receiver.port, "name": "grpc-otlp", "protocol": "GRPC"},
        {"number": receiver.http_port, "name": "http-otlp", "protocol": "HTTP"},
    ]
    spec = {
        "hosts": [f"{name}.istio-system.svc.cluster.local"],
        "location": "MESH_EXTERNAL",
        "resolution": "STATIC",
        "ports": ports,
        "endpoints": [{"address": "127.0.0.1"}],
    }
    return manifest("ServiceEntry", name, spec, ROOT)


def telemetry(
    name: str, spec: Mapping[str, Any], namespace: str = ROOT, labels: Mapping[str, str] | None = None
) -> Manifest:
    selected = {"selector": {"matchLabels": dict(labels)}} if labels else {}
    found = manifest("Telemetry", name, {**selected, **spec}, namespace)
    return found | {"apiVersion": "telemetry.istio.io/v1"}


class Shop(Up):
    """The demo's shop: a gateway and three services with sidecars. ``extra``: more manifests."""

    def __init__(self, folder: Path, *extra: Manifest) -> None:
        self.prepared: Prepared = prepare(folder / "state")
        files = {file.name: file.read_text() for file in sorted(self.prepared.manifests.glob("*.yaml"))}
        super().__init__(folder, {**files, "70-telemetry.yaml": dump(*extra)})
        # The identity provider looks for it beside the folder of its manifest.
        key = folder / "identity-provider.pem"
        key.write_bytes((self.state / "demo" / "identity-provider.pem").read_bytes())

    def start(self) -> Shop:
        super().start()
        try:
            self.token_of_alice = str(eventually(self._token, 60))
            eventually(lambda: self.order().status_code == 200, 60)
        except BaseException:
            self.stop()
            raise
        return self

    def _token(self) -> str:
        form = {"grant_type": "password", "username": "alice", "password": "alice"}
        answer = httpx.post(f"{self.prepared.idp_url}/token", data=form, trust_env=False, timeout=30, verify=False)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def ask(self, method: str = "GET", path: str = "/orders", token: bool = True, **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if token:
            headers["authorization"] = f"Bearer {self.token_of_alice}"
        with self.client() as client:
            return self.send(client, method, f"https://{HOST}:8443{path}", headers=headers, **options)

    def order(self, **headers: str) -> httpx.Response:
        """One of Alice's orders: the answer takes every service."""
        return self.ask(path="/orders/1001", headers={name.replace("_", "-"): value for name, value in headers.items()})

    def metrics_of(self, proxy_id: str) -> str:
        """What Prometheus would get of one proxy."""
        answer = httpx.get(
            f"{self.ready['control_plane']['http']}/metrics/proxies/{proxy_id}",
            trust_env=False,
            timeout=30,
            verify=False,
        )
        answer.raise_for_status()
        return answer.text
