"""File change to the first request that sees it, through a gateway and its running control plane."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.real.backend import Backend
from tests.real.manifests import service, workload_entry
from tests.real.up import Up

EDITS = 100
_EDGE = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: bench}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: bench}
spec:
  hosts: [web.example.com]
  gateways: [edge]
  http:
    - route: [{destination: {host: web}}]
      headers: {response: {set: {x-edit: "EDIT"}}}
"""
_DENY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: bench}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules: [{to: [{operation: {paths: [/PATH]}}]}]
"""


def measure() -> Iterator[tuple[str, str, list[float]]]:
    with tempfile.TemporaryDirectory() as folder, Backend() as backend:
        web = service("web", "bench") + "---\n" + workload_entry("web-1", "bench", "web", backend.port)
        manifests = {"edge.yaml": _EDGE, "web.yaml": web, "deny.yaml": _DENY}
        with Up(Path(folder), manifests) as up, up.client() as client:
            routes, policies = [], []
            for number in range(EDITS):
                started = time.monotonic()
                up.write("edge.yaml", _EDGE.replace("EDIT", str(number)))
                while up.send(client, "GET", "http://web.example.com/").headers.get("x-edit") != str(number):
                    time.sleep(0.001)
                routes.append((time.monotonic() - started) * 1e3)
                started = time.monotonic()
                up.write("deny.yaml", _DENY.replace("PATH", f"p{number}"))
                while up.send(client, "GET", f"http://web.example.com/p{number}").status_code != 403:
                    time.sleep(0.001)
                policies.append((time.monotonic() - started) * 1e3)
    for what, rounds in (("route", routes), ("policy at the sidecar", policies)):
        yield f"{what}, {EDITS} edits", "ms", rounds
        yield f"{what}, p99", "ms", [statistics.quantiles(rounds, n=100)[98]]
