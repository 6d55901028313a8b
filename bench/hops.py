"""A request through gateway and sidecar against the program called directly: sequential, one connection each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from tests.real.backend import Backend
from tests.real.manifests import ISSUER, TEMPLATE, service, workload_entry
from tests.real.up import Up, development_jwks

ROUNDS = 10
EACH = 300


def measure() -> Iterator[tuple[str, str, list[float]]]:
    with tempfile.TemporaryDirectory() as folder, Backend() as backend:
        where = Path(folder)
        jwks = development_jwks(where / "state", where / "jwks.json")
        entry = workload_entry("backend-1", "api-system", "backend-service", backend.port, account="backend")
        manifests = {"mesh.yaml": TEMPLATE, "backend.yaml": service("backend-service", "api-system") + "---\n" + entry}
        with Up(where, manifests, "--jwks", f"{ISSUER}={jwks}") as up, up.client() as client:
            token = {"authorization": f"Bearer {up.token(ISSUER, role='api-user')}"}
            url = "https://api.prod.example.com/api/v1/health"
            assert up.send(client, "GET", url).status_code == 403, "the policies have to be in force"
            direct, through = [], []
            with httpx.Client(trust_env=False) as plain:
                for _ in range(ROUNDS):
                    direct.append(_timed(lambda: plain.get(f"http://127.0.0.1:{backend.port}/api/v1/health")))
                    through.append(_timed(lambda: up.send(client, "GET", url, headers=token)))
    yield f"direct, {EACH} requests a round", "ms", direct
    yield "TLS, gateway, mutual TLS, sidecar, token, claims, two access logs", "ms", through
    yield "added by both hops", "ms", [b - a for a, b in zip(direct, through, strict=True)]


def _timed(request: object) -> float:
    """Milliseconds a request; every answer has to be a 200."""
    assert callable(request)
    started = time.perf_counter()
    for _ in range(EACH):
        assert request().status_code == 200
    return (time.perf_counter() - started) / EACH * 1e3
