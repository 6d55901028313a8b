"""WorkloadGroup: machines that register themselves, and a probe that says whether they are sent to.

The machines are folders of this one, their sidecars at loopback addresses of their own.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.api.client import ApiClient
from isthmus.errors import IsthmusError
from isthmus.state import StateDir
from tests.real.backend import Backend, Reply, header
from tests.real.fields import enforces
from tests.real.hosts import EDGE, Host
from tests.real.pki import Authority
from tests.real.up import eventually, free_port

MESH = (
    EDGE
    + """\
  http: [{route: [{destination: {host: orders, port: {number: 80}}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {selector: {app: orders}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
"""
)
"""Both groups' machines are members of the one service."""


def group(name: str, spec: dict[str, Any]) -> str:
    return json.dumps(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadGroup",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": spec,
        }
    )


class Group:
    """A control plane, a gateway, and two machines of a group each; ``first`` is the one that tests work on."""

    def __init__(self, folder: Path, first: Backend, second: Backend) -> None:
        self.first, self.second = first, second
        self.plane, self.edge, self.one, self.two = (
            Host(name, "", "127.0.0.1", folder / name) for name in ("plane", "edge", "one", "two")
        )
        for host in self.hosts:
            host.folder.mkdir(parents=True)
        self.mesh = self.plane.folder / "mesh"
        self.mesh.mkdir()
        (self.mesh / "mesh.yaml").write_text(MESH)
        self.port = free_port()
        self.listen = free_port()
        self.usual: dict[str, Any] = {"template": {"ports": {"http": 8080}, "labels": {"app": "orders"}}}

    @property
    def hosts(self) -> tuple[Host, ...]:
        return self.plane, self.edge, self.one, self.two

    @property
    def api(self) -> ApiClient:
        return ApiClient(StateDir.at(self.plane.folder / "state").api_socket)

    def write(self, name: str, spec: dict[str, Any]) -> None:
        temporary = self.mesh / f".{name}.new"
        temporary.write_text(group(name, spec))
        temporary.replace(self.mesh / f"{name}.yaml")

    def start(self) -> None:
        self.write("first", self.usual)
        # Nobody's member at first.
        self.write("second", {"template": {"ports": {"http": 8080}, "labels": {"app": "nothing"}}})
        listen = ("--listen", f"127.0.0.1:{self.listen}", "--enrol-listen", f"127.0.0.1:{free_port()}")
        self.plane.isthmus("serve", "serve", "mesh", *listen, "--node-grace", "1s", "--state", "state")
        eventually(self.answers, 60)
        published = f"127.0.0.1:{self.port}:8080"
        self._carry(self.edge, "gateway:shop/edge", "gateway", "--gateway", "shop/edge", "-p", published)
        for host, app, address in ((self.one, self.first, "127.0.0.21"), (self.two, self.second, "127.0.0.22")):
            wanted = "first" if host is self.one else "second"
            options = ("--workload-group", f"shop/{wanted}", "--port", f"http:8080={app.port}", "--address", address)
            options += ("--allow-exec-probe",) if host is self.one else ()
            self._carry(host, f"workload-group:shop/{wanted}", "sidecar", *options)
        for host in (self.edge, self.one, self.two):
            host.started[-1].wait_for(host.folder / "ready.json")
        eventually(self.answered, 60)

    def answers(self) -> bool:
        try:
            return asyncio.run(self.api.nodes()) == []
        except IsthmusError:
            return False

    def _carry(self, host: Host, scope: str, kind: str, *options: str) -> None:
        token = asyncio.run(self.api.invite(host.name, scope, 600))["token"]
        common = ("--control-plane", f"127.0.0.1:{self.listen}", "--state", "state", "--ready-file", "ready.json")
        host.isthmus("proxy", "proxy", kind, *common, *options, env={"ISTHMUS_JOIN_TOKEN": str(token)})

    def get(self) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}/", timeout=30, trust_env=False, verify=False)

    def answered(self) -> bool:
        return self.get().status_code == 200

    def refused(self) -> bool:
        return self.get().status_code == 503

    def probed(self, probe: dict[str, Any], **more: Any) -> None:
        """From now on the first machine's program is probed like this, and one answer decides."""
        thresholds = {"successThreshold": 1, "failureThreshold": 1, "periodSeconds": 1}
        self.write("first", {**self.usual, "probe": {**thresholds, **probe, **more}})

    def shares(self, requests: int) -> Counter[str]:
        with httpx.Client(trust_env=False, timeout=30, verify=False) as client:
            answers = (client.get(f"http://127.0.0.1:{self.port}/").json()["backend"] for _ in range(requests))
            return Counter(str(name) for name in answers)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with Backend("first") as first, Backend("second") as second:
        made = Group(tmp_path_factory.mktemp("groups"), first, second)
        try:
            made.start()
            yield made
        finally:
            for host in reversed(made.hosts):
                host.end()


@pytest.fixture(autouse=True)
def usual(mesh: Group) -> Iterator[None]:
    yield
    mesh.write("first", mesh.usual)
    eventually(mesh.answered)


@enforces("WorkloadGroup.spec.metadata.labels", "WorkloadGroup.spec.template.labels")
def test_labels_make_a_machine_a_member_of_services(mesh: Group) -> None:
    ports = {"ports": {"http": 8080}}
    mesh.write("first", {"metadata": {"labels": {"app": "others"}}, "template": {**ports, "labels": {"app": "orders"}}})
    eventually(mesh.refused)
    mesh.write("first", {"metadata": {"labels": {"app": "orders"}}, "template": {**ports, "labels": {"app": "others"}}})
    eventually(mesh.answered)
    mesh.write("first", {"template": {**ports, "labels": {"app": "others"}}})
    eventually(mesh.refused)
    mesh.write("first", {"template": {**ports, "labels": {"app": "orders"}}})
    eventually(mesh.answered)


@enforces("WorkloadGroup.spec.template.ports")
def test_ports_say_where_the_sidecar_listens(mesh: Group) -> None:
    mesh.write("first", {"template": {"ports": {"http": 8085}, "labels": {"app": "orders"}}})
    # Nobody listens behind that one: the command line spoke of 8080.
    eventually(mesh.refused)
    assert eventually(lambda: is_open(8085) and not is_open(8080))
    mesh.write("first", mesh.usual)
    eventually(mesh.answered)


def is_open(port: int) -> bool:
    """Whether the first machine's sidecar listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.21", port)) == 0


@enforces("WorkloadGroup.spec.template.serviceAccount")
def test_the_account_is_the_machine_s_identity(mesh: Group) -> None:
    def by(account: str) -> bool:
        response = mesh.get()
        seen = header(response.json(), "x-forwarded-client-cert") if response.status_code == 200 else ""
        return f"By=spiffe://cluster.local/ns/shop/sa/{account};" in str(seen)

    assert eventually(lambda: by("default"))
    mesh.write("first", {"template": {**mesh.usual["template"], "serviceAccount": "orders"}})
    assert eventually(lambda: by("orders"))


@enforces("WorkloadGroup.spec.template.weight")
def test_weights_share_out_requests(mesh: Group) -> None:
    member = {"template": {**mesh.usual["template"], "weight": 1}}
    try:
        mesh.write("second", member)
        mesh.write("first", {"template": {**mesh.usual["template"], "weight": 9}})
        assert eventually(lambda: 0.75 < mesh.shares(200)["first"] / 200 < 0.99)
        mesh.write("first", member)
        assert eventually(lambda: 0.3 < mesh.shares(300)["first"] / 300 < 0.7)
    finally:
        mesh.write("second", {"template": {"ports": {"http": 8080}, "labels": {"app": "nothing"}}})
        eventually(lambda: mesh.shares(20)["second"] == 0)


HTTP_GET = "WorkloadGroup.spec.probe.httpGet"


@enforces(
    f"{HTTP_GET}.path", f"{HTTP_GET}.port", f"{HTTP_GET}.host", f"{HTTP_GET}.scheme",
    f"{HTTP_GET}.httpHeaders[].name", f"{HTTP_GET}.httpHeaders[].value",
)  # fmt: skip
def test_a_get_decides_whether_a_machine_is_sent_to(mesh: Group) -> None:
    def reply(saw: dict[str, Any]) -> Reply:
        fine = saw["path"] == "/fine" and ("x-who", "probe") in {(key, value) for key, value in saw["headers"]}
        return Reply(204 if fine else 500)

    with Backend("well", reply) as asked:
        fine = {
            "path": "/fine",
            "port": asked.port,
            "host": "127.0.0.1",
            "scheme": "HTTP",
            "httpHeaders": [{"name": "x-who", "value": "probe"}],
        }
        for wrong in (
            {"path": "/other"},
            {"port": free_port()},
            {"host": "127.0.0.99"},
            {"scheme": "HTTPS"},
            {"httpHeaders": [{"name": "x-whom", "value": "probe"}]},
            {"httpHeaders": [{"name": "x-who", "value": "nobody"}]},
        ):
            mesh.probed({"httpGet": fine})
            assert eventually(mesh.answered), wrong
            mesh.probed({"httpGet": {**fine, **wrong}})
            assert eventually(mesh.refused), wrong


@enforces("WorkloadGroup.spec.probe.tcpSocket.host", "WorkloadGroup.spec.probe.tcpSocket.port")
def test_a_connection_decides_it_too(mesh: Group) -> None:
    fine = {"host": "127.0.0.1", "port": mesh.first.port}
    for wrong in ({"host": "127.0.0.99"}, {"port": free_port()}):
        mesh.probed({"tcpSocket": fine})
        assert eventually(mesh.answered), wrong
        mesh.probed({"tcpSocket": {**fine, **wrong}})
        assert eventually(mesh.refused), wrong


@enforces("WorkloadGroup.spec.probe.exec.command")
def test_a_command_decides_it_too(mesh: Group) -> None:
    mesh.probed({"exec": {"command": ["test", "-e", "unwell"]}})
    assert eventually(mesh.refused)
    (mesh.one.folder / "unwell").touch()
    # The machine's own folder: asked once a second.
    assert eventually(mesh.answered)


def test_a_machine_that_does_not_allow_it_runs_no_command_of_a_manifest(mesh: Group) -> None:
    mesh.write("second", {**mesh.usual, "probe": {"exec": {"command": ["touch", "ran"]}, "periodSeconds": 1}})

    def told() -> bool:
        nodes = {one["name"]: one for one in asyncio.run(mesh.api.nodes())}
        return "--allow-exec-probe" in nodes["two"]["reason"] and nodes["two"]["healthy"] is False

    assert eventually(told)
    mesh.write("second", {"template": {"ports": {"http": 8080}, "labels": {"app": "nothing"}}})
    assert not (mesh.two.folder / "ran").exists()


PROBE = "WorkloadGroup.spec.probe"


@enforces(f"{PROBE}.successThreshold", f"{PROBE}.failureThreshold", f"{PROBE}.periodSeconds")
def test_how_many_answers_it_takes_and_how_often_it_is_asked(mesh: Group) -> None:
    status = 200

    with Backend("well", lambda _: Reply(status)) as asked:

        def probe(**more: int) -> None:
            mesh.probed({"httpGet": {"port": asked.port}}, **more)

        probe(failureThreshold=3)
        eventually(lambda: asked.seen and mesh.answered())
        status, before, began = 503, len(asked.seen), time.monotonic()
        eventually(mesh.refused)
        assert len(asked.seen) - before >= 3
        assert time.monotonic() - began > 1.5
        probe(successThreshold=3)
        status = 200
        before, began = len(asked.seen), time.monotonic()
        eventually(mesh.answered)
        assert len(asked.seen) - before >= 3
        assert time.monotonic() - began > 1.5
        # So far once a second; now hardly ever.
        probe(periodSeconds=300)

        def quiet() -> bool:
            before = len(asked.seen)
            time.sleep(2.5)
            return len(asked.seen) == before

        eventually(quiet)
        before = len(asked.seen)
        probe(periodSeconds=1)
        eventually(lambda: len(asked.seen) > before + 3)


@enforces(f"{PROBE}.timeoutSeconds", f"{PROBE}.initialDelaySeconds")
def test_how_long_an_answer_may_take_and_when_the_first_is_asked(mesh: Group) -> None:
    with Backend("well", lambda _: Reply(delay_seconds=1.4)) as slow:
        mesh.probed({"httpGet": {"port": slow.port}}, timeoutSeconds=1)
        assert eventually(mesh.refused)
        mesh.probed({"httpGet": {"port": slow.port}}, timeoutSeconds=20)
        assert eventually(mesh.answered)
    with Backend("well") as asked:
        mesh.probed({"httpGet": {"port": asked.port}}, initialDelaySeconds=300)
        time.sleep(1.5)
        assert asked.seen == []
        began = time.monotonic()
        mesh.probed({"httpGet": {"port": asked.port}}, initialDelaySeconds=2)
        assert eventually(lambda: asked.seen)
        assert time.monotonic() - began > 1.8


def test_tls_is_asked_without_asking_whose_it_is(mesh: Group, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    written = Authority("Nobody's").issue("nobody.example.com").written(tmp_path, "nobody")
    context.load_cert_chain(written)

    class Secure(Backend):
        def __enter__(self) -> Backend:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            return super().__enter__()

    with Secure("well") as asked:
        mesh.probed({"httpGet": {"port": asked.port, "scheme": "HTTPS", "path": "/nowhere"}})
        assert eventually(lambda: asked.seen and mesh.answered())


def test_a_machine_that_is_gone_is_taken_out_after_the_grace(mesh: Group) -> None:
    """Killed, so that it says nothing. It is the second's: the last test on it."""
    mesh.write("second", mesh.usual)
    eventually(lambda: mesh.shares(20)["second"] > 0)
    mesh.two.started[-1].process.kill()
    found = eventually(lambda: [one for one in asyncio.run(mesh.api.nodes()) if one["name"] == "two"])
    assert found[0]["scope"] == "workload-group:shop/second"
    eventually(lambda: all(one["proxies"] == [] for one in asyncio.run(mesh.api.nodes()) if one["name"] == "two"))
    eventually(lambda: mesh.shares(40) == {"first": 40})
