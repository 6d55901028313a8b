"""Local programs and "ready": what ``up`` started has to be there for the first request."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.real.up import Up

pytestmark = pytest.mark.real

SLOW = (
    "import http.server as h, os, time; time.sleep(3); "
    "h.test(h.SimpleHTTPRequestHandler, port=int(os.environ['PORT']), bind='127.0.0.1')"
)
SILENT = "import time; time.sleep(600)"


def manifests(program: str) -> str:
    return f"""\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  selector: {{istio: edge}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: app, namespace: shop}}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{{route: [{{destination: {{host: app}}}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: app, namespace: shop}}
spec: {{selector: {{app: app}}, ports: [{{name: http, port: 8080}}]}}
---
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {{name: app, namespace: shop, labels: {{app: app}}}}
spec:
  command: ["$(PYTHON)", "-c", "{program}"]
"""


def ask(up: Up) -> httpx.Response:
    return up.get("http://app.example.com/")


def test_ready_means_that_slow_programs_answer_too(tmp_path: Path) -> None:
    with Up(tmp_path, {"app.yaml": manifests(SLOW)}) as up:
        assert ask(up).status_code == 200


def test_a_program_that_never_listens_is_told_and_holds_nothing_up(tmp_path: Path) -> None:
    with Up(tmp_path, {"app.yaml": manifests(SILENT)}) as up:
        assert "shop/app: nothing listens on its port yet" in up.output
        assert ask(up).status_code == 503
