"""What ends and comes back: control plane, agent, Envoys, the supervisor; and certificates that rotate under load."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.proxy.place import Folders
from tests.real.backend import Backend
from tests.real.fields_load import Load
from tests.real.manifests import service, workload_entry
from tests.real.up import Up, alive, children_of, eventually

pytestmark = [pytest.mark.real, pytest.mark.alone]

HOST = "app.example.com"
MANIFESTS = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: shop, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
"""
GATEWAY, SIDECAR = "gateway~shop~edge", "sidecar~shop~app-1"


def routes(edit: str) -> str:
    """Nothing is tried again, so that every failure is seen."""
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
      route: [{{destination: {{host: app}}}}]
"""


@dataclass(slots=True)
class Mesh:
    up: Up
    backend: Backend

    def pid(self, part: str) -> int:
        """``serve``, ``agent``, or the Envoy of a proxy id."""
        bootstrap = str(Folders(self.up.state, (self.up.state / "run").readlink()).bootstrap(part))
        for pid in children_of(self.up.process.pid):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            if bootstrap in arguments or arguments[1:4] == ["-m", "isthmus", part]:
                return pid
        raise AssertionError(f"{part} does not run")

    def load(self, **options: int) -> Load:
        return Load(self.up.gateway(80), HOST, **options)

    def edit(self) -> str | None:
        return self.up.get(f"http://{HOST}/").headers.get("x-edit")

    def in_sync(self) -> bool:
        socket = str((self.up.state / "run").readlink() / "api.sock")
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket)) as api:
            proxies: list[dict[str, Any]] = api.get("http://api/v1/proxies").json()
        return {proxy["state"] for proxy in proxies} == {"SYNCED"}


def manifests(backend: Backend) -> dict[str, str]:
    app = service("app", "shop") + "---\n" + workload_entry("app-1", "shop", "app", backend.port, account="app")
    return {"mesh.yaml": MANIFESTS + app, "routes.yaml": routes("0")}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with Backend() as backend, Up(tmp_path_factory.mktemp("lifecycle"), manifests(backend)) as up:
        yield Mesh(up, backend)


def _within(seconds: float, began: float) -> None:
    assert time.monotonic() - began < seconds


def test_without_its_sidecar_the_app_is_not_reached_at_all(mesh: Mesh) -> None:
    envoy = mesh.pid(SIDECAR)
    # Nobody is to start another one meanwhile.
    os.kill(mesh.up.process.pid, signal.SIGSTOP)
    try:
        os.kill(envoy, signal.SIGKILL)
        eventually(lambda: mesh.up.get(f"http://{HOST}/").status_code == 503)
        before = len(mesh.backend.seen)
        assert {mesh.up.get(f"http://{HOST}/").status_code for _ in range(20)} == {503}
        assert len(mesh.backend.seen) == before
    finally:
        os.kill(mesh.up.process.pid, signal.SIGCONT)
    eventually(lambda: mesh.up.get(f"http://{HOST}/").status_code == 200)
    assert mesh.pid(SIDECAR) != envoy


@pytest.mark.parametrize("proxy", [GATEWAY, SIDECAR])
def test_an_envoy_that_is_killed_is_back_in_two_seconds(mesh: Mesh, proxy: str) -> None:
    envoy, began = mesh.pid(proxy), time.monotonic()
    os.kill(envoy, signal.SIGKILL)
    eventually(lambda: not alive(envoy))
    eventually(lambda: mesh.up.get(f"http://{HOST}/").status_code == 200, every=0.02)
    _within(2.0, began)


def test_no_traffic_notices_that_the_agent_was_killed(mesh: Mesh) -> None:
    agent = mesh.pid("agent")
    with mesh.load() as load:
        os.kill(agent, signal.SIGKILL)
        eventually(lambda: mesh.pid("agent") != agent)
        eventually(lambda: load.requests > 1000)
    assert load.failures == {}
    assert not alive(agent)


def test_traffic_goes_on_without_the_control_plane_which_is_back_in_five_seconds(mesh: Mesh) -> None:
    serve = mesh.pid("serve")
    with mesh.load() as load:
        eventually(lambda: load.requests > 100)
        began = time.monotonic()
        os.kill(serve, signal.SIGKILL)
        mesh.up.write("routes.yaml", routes("after"))
        eventually(mesh.in_sync)
        eventually(lambda: mesh.edit() == "after")
        _within(5.0, began)
    assert load.failures == {}
    assert mesh.pid("serve") != serve


def test_ctrl_c_leaves_nothing_and_a_second_start_has_the_same_root(mesh: Mesh) -> None:
    up = mesh.up
    root, runtime = (up.state / "ca" / "root.pem").read_bytes(), (up.state / "run").readlink()
    running = children_of(up.process.pid)
    assert len(running) == 4
    assert up.stop(signal.SIGINT) == 0
    assert not any(alive(pid) for pid in running)
    left = {file.name for file in up.state.iterdir()}
    assert not left & {"lock", "run", "api.sock"}
    assert not runtime.exists()
    up.start()
    assert (up.state / "ca" / "root.pem").read_bytes() == root
    assert mesh.edit() == "after"


def test_nothing_outlives_a_supervisor_that_is_killed(mesh: Mesh) -> None:
    running, runtime = children_of(mesh.up.process.pid), (mesh.up.state / "run").readlink()
    assert len(running) == 4
    assert mesh.up.stop(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: not any(alive(pid) for pid in running))
    eventually(lambda: not runtime.exists())


_ROTATION_SECONDS = 31.0


def test_certificates_rotate_under_load_without_a_failed_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Backend() as backend, Up(tmp_path, manifests(backend), "--svid-ttl", "10s") as up:
        mesh, shown = Mesh(up, backend), set[str]()
        sockets = [up.ready["gateways"][0]["admin_socket"], up.workload("app-1")["admin_socket"]]
        with mesh.load() as load:
            until = time.monotonic() + _ROTATION_SECONDS
            while time.monotonic() < until:
                for socket in sockets:
                    shown.update(_serials(socket))
                time.sleep(0.5)
    with capsys.disabled():
        rate = load.requests / load.seconds
        print(
            f"\nrotation: {load.requests} requests ({rate:.0f}/s) on {load.connections} connections in "
            f"{load.seconds:.0f} s, {len(shown)} certificates, failures: {load.failures or 0}"
        )
    assert load.failures == {}
    assert load.seconds >= 30
    assert load.requests > 6000
    assert load.connections > 200
    assert len(shown) >= 2 * 4, "each of the two proxies, every five seconds or so"


def _serials(socket: str) -> set[str]:
    with httpx.Client(transport=httpx.HTTPTransport(uds=socket)) as admin:
        held = admin.get("http://envoy/certs").json()["certificates"]
    return {chain["serial_number"] for one in held for chain in one.get("cert_chain", ())}
