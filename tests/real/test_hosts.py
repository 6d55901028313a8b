"""Several machines: a control plane, a gateway and two programs, each on a host of its own."""

from __future__ import annotations

import asyncio
import base64
import json
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.api.client import ApiClient
from isthmus.errors import IsthmusError
from isthmus.state import StateDir
from tests.real.backend import header
from tests.real.hosts import EDGE, Host, Program, lan
from tests.real.load import Load
from tests.real.up import eventually

APP = Path(__file__).parent / "app.py"
PORT = 15012
SVID_TTL = 100
"""Seconds: renewed at half, so 45 are left at least when the control plane goes, and it needs some to come back."""
AWAY = 20.0
"""To SVID_TTL as an hour to the three that certificates live under `serve --listen`."""
MESH = (
    EDGE
    + """\
  http:
    - match: [{uri: {prefix: /billing}}]
      route: [{destination: {host: billing, port: {number: 80}}}]
    - route: [{destination: {host: orders, port: {number: 80}}}]
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {selector: {app: orders}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: billing, namespace: shop}
spec: {selector: {app: billing}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
"""
)


class Mesh:
    """Four hosts on one bridge, and what runs on them."""

    def __init__(self, plane: Host, edge: Host, orders: Host, billing: Host) -> None:
        self.plane, self.edge, self.orders, self.billing = plane, edge, orders, billing
        (plane.folder / "mesh.yaml").write_text(MESH)
        self.serve: Program
        self.used = ""

    def start(self) -> None:
        self.start_plane()
        self.used = self.token("orders-1", "sidecar:shop/orders?app=orders")
        self._carry_gateway(self.token("edge-1", "gateway:shop/edge"))
        self._carry(self.orders, "orders", self.used)
        self._carry(self.billing, "billing", self.token("billing-1", "sidecar:shop/billing?app=billing"))
        for host in (self.edge, self.orders, self.billing):
            host.started[-1].wait_for(host.folder / "ready.json")
        eventually(lambda: self.get("/").status_code == 200, 60)
        eventually(lambda: self.get("/billing").status_code == 200, 60)

    def start_plane(self) -> None:
        at = f"{self.plane.address}:{PORT}"
        options = ("--listen", at, "--state", "state", "--svid-ttl", f"{SVID_TTL}s", "--node-grace", "20s")
        self.serve = self.plane.isthmus("serve", "serve", "mesh.yaml", *options)
        eventually(self.answers, 90)

    def answers(self) -> bool:
        try:
            return self.nodes() is not None
        except IsthmusError:
            return False

    def on_plane(self, *arguments: str) -> Any:
        """A command there, as JSON."""
        ran = self.plane.command(*arguments, "--state", "state", "-o", "json")
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    @property
    def api(self) -> ApiClient:
        """A Unix socket: of the machine's files, not of its network."""
        return ApiClient(StateDir.at(self.plane.folder / "state").api_socket)

    def token(self, node: str, scope: str) -> str:
        return str(asyncio.run(self.api.invite(node, scope, 600))["token"])

    def nodes(self) -> dict[str, dict[str, Any]]:
        return {node["name"]: node for node in asyncio.run(self.api.nodes())}

    def _carry_gateway(self, token: str) -> None:
        options = ("--control-plane", self.plane.address, "--gateway", "shop/edge", "--state", "state")
        self._start(self.edge, ("gateway", *options), token)

    def carry(self, host: Host, app: str, token: str | None) -> None:
        self._carry(host, app, token)
        host.started[-1].wait_for(host.folder / "ready.json")

    def _carry(self, host: Host, app: str, token: str | None) -> None:
        options = ("--control-plane", self.plane.address, "-n", "shop", "--service-account", app, "-l", f"app={app}")
        port = ("--port", "http:8080=9000", "--state", "state", "--env-file", "app.env")
        self._start(host, ("sidecar", *options, *port, "--", sys.executable, str(APP), "9000", app), token)

    def _start(self, host: Host, arguments: tuple[str, ...], token: str | None) -> None:
        kind, *rest = arguments
        env = {} if token is None else {"ISTHMUS_JOIN_TOKEN": token}
        host.isthmus("proxy", "proxy", kind, "--ready-file", "ready.json", *rest, env=env)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://{self.edge.address}:8080{path}", timeout=30, trust_env=False, verify=False)

    def call(self, host: Host, url: str) -> tuple[int, str]:
        """As the program of ``host`` does it: by its sidecar. Status and body; 0: no answer."""
        env = dict(shlex.split(line)[0].split("=", 1) for line in (host.folder / "app.env").read_text().splitlines())
        ran = host.run("curl", "-sS", "-m", "10", "-w", "\n%{http_code}", url, env=env)
        body, _, status = ran.stdout.rpartition("\n")
        return int(status or 0), body


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with lan(tmp_path_factory.mktemp("hosts")) as net:
        made = Mesh(*(net.host(name) for name in ("plane", "edge", "orders", "billing")))
        made.start()
        yield made


def test_every_hop_is_mutual_tls_between_hosts(mesh: Mesh) -> None:
    saw = mesh.get("/hello").json()
    assert (saw["name"], saw["path"]) == ("orders", "/hello")
    assert "URI=spiffe://cluster.local/ns/shop/sa/edge" in str(header(saw, "x-forwarded-client-cert"))
    status, body = mesh.call(mesh.billing, "http://orders.shop.svc.cluster.local/of-billing")
    assert status == 200
    identity = str(header(json.loads(body), "x-forwarded-client-cert"))
    assert "By=spiffe://cluster.local/ns/shop/sa/orders" in identity
    assert "URI=spiffe://cluster.local/ns/shop/sa/billing" in identity


def test_plaintext_and_strangers_get_nothing_from_a_sidecar(mesh: Mesh) -> None:
    for url in (f"http://{mesh.orders.address}:8080/", f"https://{mesh.orders.address}:8080/"):
        with pytest.raises(httpx.TransportError):
            httpx.get(url, timeout=30, trust_env=False, verify=False)
    # The program itself listens on its own loopback alone.
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{mesh.orders.address}:9000/", timeout=30, trust_env=False, verify=False)


def test_proxies_and_nodes_are_shown_with_their_machine(mesh: Mesh) -> None:
    def seen() -> bool:
        found = mesh.on_plane("proxies")
        return {(one["name"], one["node"], one["state"]) for one in found} == {
            ("edge", "edge-1", "SYNCED"),
            ("orders-1", "orders-1", "SYNCED"),
            ("billing-1", "billing-1", "SYNCED"),
        }

    assert eventually(seen)
    nodes = mesh.nodes()
    assert {name: (node["state"], node["scope"], node["address"]) for name, node in nodes.items()} == {
        "edge-1": ("connected", "gateway:shop/edge", mesh.edge.address),
        "orders-1": ("connected", "sidecar:shop/orders?app=orders", mesh.orders.address),
        "billing-1": ("connected", "sidecar:shop/billing?app=billing", mesh.billing.address),
    }


def test_metrics_of_every_machine_are_had_from_the_control_plane(mesh: Mesh) -> None:
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(mesh.plane.folder / "state" / "api.sock"), verify=False), timeout=30
    ) as api:
        paths = {target["labels"]["__metrics_path__"] for target in api.get("http://plane/discovery/prometheus").json()}
        assert {path.rpartition("/")[2] for path in paths} == {
            "gateway~shop~edge",
            "sidecar~shop~orders-1",
            "sidecar~shop~billing-1",
        }
        assert all("istio_requests_total" in api.get(f"http://plane{path}").text for path in paths if "orders" in path)
        assert all(api.get(f"http://plane{path}").status_code == 200 for path in paths)
        assert 'isthmus_nodes{state="connected"} 3' in api.get("http://plane/metrics").text


def test_what_an_envoy_of_another_machine_runs_is_compared(mesh: Mesh) -> None:
    """Its admin interface is of that machine's files: whoever is on it may change what it runs."""
    ready = json.loads((mesh.billing.folder / "ready.json").read_text())
    admin = httpx.HTTPTransport(uds=ready["proxies"][0]["admin_socket"])
    with httpx.Client(transport=admin, base_url="http://envoy") as client:
        client.post("/logging", params={"level": "debug"})
        told = mesh.plane.command("drift", "--live", "--state", "state")
        client.post("/logging", params={"level": "warning"})
    told_at_all = "sidecar~shop~billing-1 on billing-1: state log level: warning → debug (ISM8004)\n"
    assert (told.returncode, told.stdout, told.stderr) == (1, told_at_all, "")
    assert "ALARM: ISM8004 sidecar~shop~billing-1 on billing-1: state log level" in mesh.serve.output


def refused(mesh: Mesh, token: str | None, *more: str) -> str:
    """What a machine is told that may not join; it ends with 1."""
    env = {} if token is None else {"ISTHMUS_JOIN_TOKEN": token}
    options = ("--control-plane", mesh.plane.address, "-n", "shop", "--service-account", "orders", *more)
    ran = mesh.edge.command("proxy", "sidecar", *options, "--state", f"other-{time.monotonic_ns()}", env=env)
    assert ran.returncode == 1, (ran.stdout, ran.stderr)
    assert "Traceback" not in ran.stderr
    return ran.stderr


def test_a_token_is_for_one_use(mesh: Mesh) -> None:
    said = refused(mesh, mesh.used)
    assert "the join token of node orders-1 was used already" in said
    assert mesh.used not in said
    assert "was used already" in mesh.serve.output
    assert mesh.used not in mesh.serve.output


def test_a_control_plane_with_another_root_is_told_nothing(mesh: Mesh) -> None:
    token = mesh.token("orders-9", "sidecar:shop/orders?app=orders")
    prefix, _, encoded = token.partition(".")
    content = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    content["roots"] = ["0" * 64]
    forged = f"{prefix}." + base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
    assert "another root certificate than the one that the join token names" in refused(mesh, forged)
    assert mesh.nodes()["orders-9"]["state"] == "invited", "the token was not shown, so it was not used"


def test_a_machine_is_what_its_token_says_and_nothing_else(mesh: Mesh) -> None:
    said = refused(mesh, mesh.token("narrow-1", "sidecar:shop/billing?app=billing"))
    assert "was let in as sidecar:shop/billing?app=billing, not as sidecar:shop/orders" in said
    # A label puts it behind a Service: it has those of its token, or fewer.
    said = refused(mesh, mesh.token("narrow-2", "sidecar:shop/orders"), "-l", "app=orders")
    assert "was let in as sidecar:shop/orders, not as sidecar:shop/orders?app=orders" in said
    assert "has not joined yet" in refused(mesh, None)
    assert "this is no join token" in refused(mesh, "hello")


def test_a_control_plane_that_is_away_costs_no_request(mesh: Mesh) -> None:
    with Load((mesh.edge.address, 8080), "shop.example.com", rate=200, per_connection=10) as load:
        time.sleep(1)
        mesh.serve.stop(signal.SIGKILL)
        killed = load.now
        time.sleep(AWAY)
        mesh.start_plane()
        eventually(lambda: {node["state"] for node in mesh.nodes().values()} <= {"connected", "invited", "away"})
        eventually(lambda: mesh.nodes()["orders-1"]["state"] == "connected")
        time.sleep(2)
    assert load.failures == []
    assert load.now - killed > AWAY
    assert load.answers[200] > 0.2 * 200 * load.seconds
    assert load.opened > load.sent / 20


def test_a_machine_that_is_started_again_needs_no_token(mesh: Mesh) -> None:
    running = mesh.billing.started[-1]
    with Load((mesh.edge.address, 8080), "shop.example.com", rate=100, path="/") as load:
        running.stop()
        gone = eventually(lambda: (found := mesh.nodes()["billing-1"])["state"] == "away" and found)
        assert gone["proxies"] == []
        assert mesh.get("/billing").status_code == 503
        mesh.carry(mesh.billing, "billing", None)
        eventually(lambda: mesh.get("/billing").status_code == 200)
    assert load.failures == []


def test_a_machine_that_was_put_out(mesh: Mesh) -> None:
    """It is hostile: the process that would obey stands still, its Envoy and its agent do not."""
    running = mesh.billing.started[-1]
    there = "http://orders.shop.svc.cluster.local/"
    assert eventually(lambda: mesh.call(mesh.billing, there)[0] == 200)
    running.process.send_signal(signal.SIGSTOP)
    try:
        assert mesh.on_plane("node", "evict", "billing-1")["proxies"] == ["sidecar~shop~billing-1"]
        eventually(lambda: mesh.get("/billing").status_code == 503)
        eventually(lambda: mesh.call(mesh.billing, there)[0] != 200)
        assert mesh.get("/").status_code == 200
        eventually(lambda: "may not connect as 'sidecar~shop~billing-1'" in mesh.serve.output)
        assert mesh.nodes()["billing-1"]["state"] == "evicted"
    finally:
        running.process.send_signal(signal.SIGCONT)
    assert running.process.wait(60) == 1
    assert "the node billing-1 was evicted: it needs a new join token" in running.output
    again = mesh.billing.isthmus(
        "again", "proxy", "sidecar", "--control-plane", mesh.plane.address, "-n", "shop", "--state", "state",
    )  # fmt: skip
    assert again.process.wait(60) == 1
    assert "was evicted" in again.output
    mesh.carry(mesh.billing, "billing", mesh.token("billing-1", "sidecar:shop/billing?app=billing"))
    eventually(lambda: mesh.get("/billing").status_code == 200)
    eventually(lambda: mesh.call(mesh.billing, there)[0] == 200)
