"""``isthmus run`` through the ends of others: the command goes on, and so must its way into the mesh."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.proxy.namespaces import needs_namespaces
from tests.real.up import ISTHMUS, Up, alive, arguments_of, children_of, eventually

pytestmark = pytest.mark.real

MANIFESTS = """\
apiVersion: v1
kind: Service
metadata: {name: app, namespace: shop}
spec: {selector: {app: app}, ports: [{name: http, port: 8080}]}
---
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {name: app, namespace: shop}
spec:
  labels: {app: app}
  command: ["$(PYTHON)", "-m", "isthmus.demo.echo"]
  ports: [{name: http, number: 8080}]
"""
CALLER = """
import sys, urllib.request
for _ in sys.stdin:
    try:
        print(urllib.request.urlopen("http://app.shop:8080/", timeout=10).status, flush=True)
    except OSError as failed:
        print(failed, flush=True)
"""


def control_plane(up: Up) -> int:
    for pid in children_of(up.process.pid):
        if arguments_of(pid)[1:4] == ["-m", "isthmus", "serve"]:
            return pid
    raise AssertionError("no control plane runs")


def sidecars(up: Up) -> list[str]:
    socket = str((up.state / "run").readlink() / "api.sock")
    with httpx.Client(transport=httpx.HTTPTransport(uds=socket, verify=False), timeout=30) as api:
        return [proxy["id"] for proxy in api.get("http://api/v1/proxies").json() if "~run-" in proxy["id"]]


@needs_namespaces
def test_a_command_keeps_its_place_in_the_mesh_when_the_control_plane_is_killed(tmp_path: Path) -> None:
    with Up(tmp_path, {"app.yaml": MANIFESTS}) as up:
        command = (*ISTHMUS, "run", "--state", str(up.state), "-n", "shop")
        running = {
            network: subprocess.Popen(
                [*command, "--network", network, "--", sys.executable, "-c", CALLER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for network in ("host", "isolated")
        }

        def ask(network: str) -> str:
            process = running[network]
            assert process.stdin is not None
            assert process.stdout is not None
            print(file=process.stdin, flush=True)
            return process.stdout.readline().strip()

        try:
            assert [ask(network) for network in running] == ["200", "200"]
            before, old = sorted(sidecars(up)), control_plane(up)
            os.kill(old, signal.SIGKILL)
            eventually(lambda: not alive(old) and sorted(sidecars(up)) == before, seconds=90)
            assert [ask(network) for network in running] == ["200", "200"]

            # Who does not come back is forgotten, and nobody else is.
            os.kill(control_plane(up), signal.SIGKILL)
            running["host"].kill()
            eventually(lambda: len(sidecars(up)) == 1, seconds=90)
            assert ask("isolated") == "200"
        finally:
            for process in running.values():
                if process.stdin is not None:
                    process.stdin.close()
                process.wait(60)
        eventually(lambda: sidecars(up) == [], seconds=90)
