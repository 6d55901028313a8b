"""Workloads in networks of their own: what reaches them, what they reach, and that nothing goes around the mesh."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.proxy.namespaces import needs_namespaces
from tests.real import prober
from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.name_server import NameServer
from tests.real.traffic import Manifest, dump, gateway, manifest, routes, server, service, to
from tests.real.up import ISTHMUS, Up, alive, children_of, eventually, free_port

pytestmark = pytest.mark.real

NO_NAMESPACES = ("unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh")
"""Runs a command as on a system that does not allow them."""
HOST = "127.0.0.1"


def probing(name: str, number: int, network: str, **spec: Any) -> tuple[Manifest, Manifest]:
    command = ["$(PYTHON)", prober.__file__, name]
    return service(name), manifest(
        "LocalWorkload",
        name,
        {
            "network": network,
            "serviceAccount": name,
            "command": command,
            "ports": [{"name": "http", "number": number}],
            **spec,
        },
        labels={"app": name},
    )


def entry(name: str, host: str, port: int, resolution: str, address: str, to_port: int, protocol: str = "HTTP") -> str:
    return dump(
        manifest(
            "ServiceEntry",
            name,
            {
                "hosts": [host],
                "ports": [{"number": port, "name": "http", "protocol": protocol}],
                "location": "MESH_EXTERNAL",
                "resolution": resolution,
                "endpoints": [{"address": address, "ports": {"http": to_port}}],
            },
        )
    )


class Mesh:
    """A running mesh of probers, asked through its gateway."""

    def __init__(self, up: Up) -> None:
        self.up = up

    def ask(self, name: str, **asked: object) -> dict[str, Any]:
        answer = self.up.get(f"http://{name}.example.com/", params={key: str(value) for key, value in asked.items()})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        assert told["name"] == name
        return told

    def failed(self, name: str, **asked: object) -> str | None:
        """Why what was tried did not work; None if it did."""
        found: str | None = self.ask(name, **asked).get("failed")
        return found

    def call(self, name: str, url: str, **more: object) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(name, do="call", url=url, **more)["result"]
        return found

    def port(self, name: str) -> int:
        return int(self.ask(name)["result"]["env"]["PORT"])

    def runtime(self) -> Path:
        return Path(self.up.workload("target")["admin_socket"]).parent

    def pid_of_sidecar(self, name: str) -> int:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(self.up.workload(name)["admin_socket"])
            return int.from_bytes(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), "little")


def probers(network: str, *names: str, **more: Any) -> str:
    """Probers behind the gateway. ``more`` of their specs is the same for all."""
    pairs = [probing(name, free_port(), network, **more) for name in names]
    ways = [routes(name, [f"{name}.example.com"], {"route": [to(name)]}, gateways=["edge"]) for name in names]
    return dump(*ways, *(document for pair in pairs for document in pair))


EDGE = dump(gateway("edge", server(80)), manifest("PeerAuthentication", "strict", {"mtls": {"mode": "STRICT"}}))


@pytest.fixture(scope="module")
def outside() -> Iterator[Backend]:
    with Backend("outside") as backend:
        yield backend


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, outside: Backend) -> Iterator[Mesh]:
    # The same upstreams for all: one on a port of its choice, which those in networks of their own can all have.
    bind = f"127.0.0.1:{free_port()}"
    target = {"host": "target.shop.svc.cluster.local", "port": 80}
    raw = {"host": "raw.example.com", "port": 5432}
    files = {
        "edge.yaml": EDGE,
        "isolated.yaml": probers("Isolated", "target", "intruder", upstreams=[{**target, "bind": bind}, raw]),
        "host.yaml": probers("Host", "host"),
        "static.yaml": entry("static", "static.example.com", 80, "STATIC", HOST, outside.port),
        "raw.yaml": entry("raw", "raw.example.com", 5432, "STATIC", HOST, outside.port, "TCP"),
        "dns.yaml": entry("dns", "dns.example.com", 8000, "DNS", "localhost", outside.port),
    }
    with Up(tmp_path_factory.mktemp("isolation"), files) as up:
        yield Mesh(up)


def refused(port: int) -> bool:
    """Whether nobody listens on a port of the machine."""
    with socket.socket() as asking:
        asking.settimeout(5)
        return asking.connect_ex((HOST, port)) != 0


@needs_namespaces
@enforces("LocalWorkload.spec.network")
def test_an_isolated_program_is_reached_through_the_mesh_alone(mesh: Mesh) -> None:
    assert [mesh.up.workload(name)["isolated"] for name in ("target", "intruder", "host")] == [True, True, False]
    told = mesh.ask("target")
    assert "URI=spiffe://cluster.local/ns/shop/sa/edge" in told["caller"]
    assert told["result"]["env"]["http_proxy"].endswith(mesh.up.workload("target")["outbound_proxy"])
    # Its port is as declared: nobody else's, and not the machine's.
    assert refused(mesh.port("target"))
    assert refused(int(mesh.up.workload("target")["outbound_proxy"].rpartition(":")[2]))
    assert not refused(mesh.port("host")), "network: Host is as open as the note says"
    assert "(host: in the machine's network)" in mesh.up.output


@needs_namespaces
def test_whoever_can_open_its_socket_still_needs_an_identity(mesh: Mesh) -> None:
    (address,) = mesh.up.workload("target")["inbound"].values()
    path = address.removeprefix("unix://")
    assert Path(path).stat().st_mode & 0o777 == 0o600
    with (
        httpx.Client(transport=httpx.HTTPTransport(uds=path, verify=False), timeout=30) as client,
        pytest.raises(httpx.TransportError),
    ):
        client.get("http://target/")


@needs_namespaces
def test_another_workload_reaches_neither_its_port_nor_its_proxy_nor_its_sockets(mesh: Mesh) -> None:
    target, credential = mesh.port("target"), mesh.ask("target")["result"]["env"]["http_proxy"].split("@")[0]
    assert mesh.failed("intruder", do="connect", host=HOST, port=target) == "ConnectionRefusedError"
    for host_port in (mesh.port("host"), int(mesh.up.ready["control_plane"]["http"].rpartition(":")[2])):
        assert mesh.failed("intruder", do="connect", host=HOST, port=host_port) == "ConnectionRefusedError"
    # There is a proxy at that port, its own: the other's credential is worth nothing there.
    assert mesh.call("intruder", "http://target/")["status"] == 200
    assert mesh.call("intruder", "http://target/", **{"as": credential.rpartition(":")[2]})["status"] == 407
    admin = mesh.up.workload("target")["admin_socket"]
    (inbound,) = mesh.up.workload("target")["inbound"].values()
    for path in (admin, inbound.removeprefix("unix://"), mesh.up.state / "api.sock"):
        assert mesh.failed("intruder", do="unix", path=path) == "FileNotFoundError"
        assert mesh.failed("host", do="unix", path=path) is None, "which is there for who is not isolated"


@needs_namespaces
def test_it_sees_no_key_and_cannot_get_out(mesh: Mesh) -> None:
    runtime, state = mesh.runtime(), mesh.up.state.resolve()
    # The Workload API is for every program: it asks the kernel who calls.
    for folder, shown in ((runtime, ["workload"]), (state, [])):
        assert mesh.ask("intruder", do="list", path=folder)["result"] == shown
        assert mesh.ask("host", do="list", path=folder)["result"] != []
        assert mesh.failed("intruder", do="uncover", path=folder) == "OSError" or os.geteuid() != 0
        assert mesh.ask("intruder", do="list", path=folder)["result"] == shown
    sidecars = [mesh.pid_of_sidecar(name) for name in ("target", "intruder")]
    for pid in (os.getpid(), mesh.up.process.pid, *sidecars):
        assert mesh.failed("intruder", do="list", path=f"/proc/{pid}/root{runtime}") == "PermissionError"
        for kind in ("user", "net", "mnt"):
            assert mesh.failed("intruder", do="enter", path=f"/proc/{pid}/ns/{kind}") == "PermissionError"


@needs_namespaces
def test_calls_carry_the_identity_and_meet_the_policies(mesh: Mesh) -> None:
    for caller in ("intruder", "host"):
        body = mesh.call(caller, "http://target/")["body"]
        assert f"URI=spiffe://cluster.local/ns/shop/sa/{caller}" in body
    assert "sa/intruder" in mesh.call("intruder", "http://host/")["body"], "a sidecar in the machine's network"
    only = {"action": "ALLOW", "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/shop/sa/edge"]}}]}]}
    selector = {"selector": {"matchLabels": {"app": "target"}}}
    mesh.up.write("only.yaml", dump(manifest("AuthorizationPolicy", "only-edge", {**selector, **only})))
    try:
        eventually(lambda: mesh.call("intruder", "http://target/")["status"] == 403)
        assert mesh.ask("target")
    finally:
        mesh.up.remove("only.yaml")
    eventually(lambda: mesh.call("intruder", "http://target/")["status"] == 200)


@needs_namespaces
@pytest.mark.parametrize(
    ("source", "denied"),
    [
        ({"ipBlocks": ["127.0.0.0/8"]}, True),
        ({"ipBlocks": ["198.51.100.0/24"]}, False),
        ({"notIpBlocks": ["127.0.0.1"]}, False),
        ({"remoteIpBlocks": ["127.0.0.0/8"]}, True),
        ({"remoteIpBlocks": ["198.51.100.0/24"]}, False),
    ],
)
def test_its_callers_have_the_loopback_as_their_address(mesh: Mesh, source: dict[str, Any], denied: bool) -> None:
    """A Unix socket has no address, and a DENY rule must not let everybody in for that."""
    mark = "x-denied-by-address"
    deny = {
        "selector": {"matchLabels": {"app": "target"}},
        "action": "DENY",
        "rules": [
            {"from": [{"source": source}], "to": [{"operation": {"paths": ["/"]}}]},
            {"to": [{"operation": {"paths": [f"/{mark}"]}}]},
        ],
    }
    mesh.up.write("deny.yaml", dump(manifest("AuthorizationPolicy", "by-address", deny)))
    try:
        eventually(lambda: mesh.call("intruder", f"http://target/{mark}")["status"] == 403)
        assert mesh.call("intruder", "http://target/")["status"] == (403 if denied else 200)
    finally:
        mesh.up.remove("deny.yaml")
    eventually(lambda: mesh.call("intruder", f"http://target/{mark}")["status"] == 200)


@needs_namespaces
def test_what_service_entries_name_is_reached_by_the_relay(mesh: Mesh, outside: Backend) -> None:
    """Their addresses are the machine's own loopback, which an isolated program has no other way to."""
    assert mesh.failed("target", do="connect", host=HOST, port=outside.port) == "ConnectionRefusedError"
    for url in ("http://static.example.com/one", "http://dns.example.com:8000/two"):
        answer = mesh.call("target", url)
        assert (answer["status"], '"backend": "outside"' in answer["body"]) == (200, True)
    # Bytes, for programs that know no proxy.
    bind = mesh.ask("target")["result"]["env"]["UPSTREAM_RAW_EXAMPLE_COM_5432"]
    assert '"backend": "outside"' in mesh.call("target", f"http://{bind}/three", directly=1)["body"]
    # Added while it runs, and taken away.
    before = set(mesh.runtime().glob("*.out"))
    mesh.up.write("more.yaml", entry("more", "more.example.com", 80, "STATIC", "127.0.0.2", free_port()))
    eventually(lambda: mesh.call("target", "http://more.example.com/")["status"] == 503)
    eventually(lambda: set(mesh.runtime().glob("*.out")) > before)
    mesh.up.write("more.yaml", entry("more", "more.example.com", 80, "DNS", "localhost", outside.port))
    eventually(lambda: mesh.call("target", "http://more.example.com/")["status"] == 200)
    eventually(lambda: set(mesh.runtime().glob("*.out")) == before)
    mesh.up.remove("more.yaml")


def through_proxy(mesh: Mesh, name: str, request: str) -> str:
    """The answer of a workload's proxy to a request's first lines, its credential added."""
    proxy = httpx.URL(mesh.ask(name)["result"]["env"]["http_proxy"])
    basic = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    say = f"{request}Proxy-Authorization: Basic {basic}\r\n\r\n"
    answer: str = mesh.ask(name, do="connect", host=HOST, port=proxy.port, say=say)["result"]
    return answer


@needs_namespaces
def test_anywhere_else_is_reached_but_the_machine_itself(mesh: Mesh) -> None:
    with Backend("own") as own:
        for host in (HOST, "localhost", "127.0.0.9", "0.0.0.0"):
            answer = mesh.call("target", f"http://{host}:{own.port}/")
            assert answer["status"] == 403
            assert "ServiceEntry" in answer["body"]
        tunnel = f"CONNECT localhost:{own.port} HTTP/1.1\r\nHost: localhost:{own.port}\r\n"
        assert through_proxy(mesh, "target", tunnel).startswith("HTTP/1.1 403 ")
        assert own.seen == []


def own_address() -> str | None:
    """An address of the machine that is not a loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
        except OSError:
            return None
        found: str = asking.getsockname()[0]
    return None if found.startswith("127.") else found


@needs_namespaces
def test_a_name_that_leads_to_the_machine_besides_does_not(tmp_path: Path) -> None:
    """Of a host's addresses Envoy tries one after the other: none that it tries may be the machine itself."""
    lookups = tmp_path / "resolv.conf"
    ours = ("unshare", "-Urm", "sh", "-c", f'mount --bind {lookups} /etc/resolv.conf && exec "$@"', "sh")
    files = {"edge.yaml": EDGE, "target.yaml": probers("Isolated", "target")}
    with Backend("own") as own, NameServer(own_address() or "192.0.2.1", HOST) as names:
        lookups.write_text(f"nameserver {HOST}:{names.port}\n")
        with Up(tmp_path, files, through=ours) as up:
            mesh = Mesh(up)
            assert mesh.call("target", f"http://rebound.test:{own.port}/")["status"] == 503
            tunnel = f"CONNECT rebound.test:{own.port} HTTP/1.1\r\nHost: rebound.test:{own.port}\r\n"
            assert through_proxy(mesh, "target", tunnel).startswith("HTTP/1.1 503 ")
            assert own.seen == []


@needs_namespaces
def test_a_host_that_nobody_declared_is_reached_as_the_outbound_policy_says(mesh: Mesh) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has a loopback interface only")
    with socket.create_server((address, 0)) as listening:
        port = listening.getsockname()[1]
        env = mesh.ask("target")["result"]["env"]
        assert env["https_proxy"] == env["http_proxy"], "in the machine's network, https goes out by itself"
        tunnel = f"CONNECT {address}:{port} HTTP/1.1\r\nHost: {address}:{port}\r\n"
        assert through_proxy(mesh, "target", tunnel).startswith("HTTP/1.1 200 ")
        listening.settimeout(10)
        listening.accept()[0].close()
    only = {"mesh": "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}}
    mesh.up.write("config.yaml", dump({**config, "data": only}))
    try:
        eventually(lambda: mesh.call("target", f"http://{address}:{port}/")["status"] == 502)
        assert mesh.call("target", "http://static.example.com/")["status"] == 200
    finally:
        mesh.up.remove("config.yaml")
    eventually(lambda: mesh.call("target", f"http://{address}:{port}/")["status"] == 503)


@needs_namespaces
def test_two_workloads_may_have_the_same_ports(mesh: Mesh) -> None:
    """Each has its own loopback: the bind of its upstream, and the port of its proxy."""
    told = [mesh.ask(name)["result"]["env"] for name in ("target", "intruder")]
    names = ("UPSTREAM_TARGET_SHOP_SVC_CLUSTER_LOCAL_80",)
    for name in names:
        assert told[0][name] == told[1][name]
    assert told[0]["http_proxy"].rpartition(":")[2] == told[1]["http_proxy"].rpartition(":")[2]
    for caller, env in zip(("target", "intruder"), told, strict=True):
        answer = mesh.call(caller, f"http://{env[names[0]]}/", directly=1)
        assert f"sa/{caller}" in answer["body"]


@needs_namespaces
@pytest.mark.parametrize("what", ["sidecar", "program", "relay"])
def test_what_was_killed_comes_back_where_it_was(mesh: Mesh, what: str) -> None:
    before = mesh.up.workload("target")
    if what == "sidecar":
        pid = mesh.pid_of_sidecar("target")
    elif what == "program":
        pid = int(mesh.ask("target")["result"]["pid"])
    else:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(next(iter(mesh.runtime().glob("*.out")))))
            pid = int.from_bytes(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), "little")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid))
    eventually(lambda: mesh.ask("target"))
    eventually(lambda: mesh.call("target", "http://static.example.com/")["status"] == 200)
    assert refused(mesh.port("target"))
    assert mesh.ask("target")["result"]["env"]["http_proxy"].endswith(before["outbound_proxy"])


@needs_namespaces
def test_run_has_a_network_of_its_own_when_asked(mesh: Mesh) -> None:
    script = "; ".join(
        (
            "import os, socket, urllib.request as u",
            f"print(socket.socket().connect_ex(('127.0.0.1', {mesh.port('host')})) != 0)",
            "print(u.urlopen('http://target.shop/?do=tell').status)",
            f"print(os.listdir({str(mesh.runtime())!r}))",
            "raise SystemExit(7)",
        )
    )
    for network, output in (("isolated", "True\n200\n['workload']\n"), ("host", "False\n200\n[")):
        state = ("--state", str(mesh.up.state))
        command = (*ISTHMUS, "run", *state, "-n", "shop", "--network", network, "--", "python3", "-c", script)
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (ran.returncode, ran.stdout[: len(output)]) == (7, output), ran.stderr


@needs_namespaces
def test_workloads_change_networks_while_it_runs_and_nothing_is_left_after_the_end(tmp_path: Path) -> None:
    def networks() -> int:
        return len({os.readlink(f"/proc/{pid}/ns/net") for pid in children_of(up.process.pid)})

    def probe() -> bool:
        return Mesh(up).ask("target")["name"] == "target"

    files = {"edge.yaml": EDGE, "isolated.yaml": probers("Isolated", "target", "intruder")}
    with Up(tmp_path, files) as up:
        runtime = Path(up.workload("target")["admin_socket"]).parent
        assert networks() == 3, "the machine's, and one for each isolated workload"
        up.write("isolated.yaml", probers("Host", "target", "intruder"))
        eventually(lambda: networks() == 1 and probe())
        eventually(lambda: not list(runtime.glob("*.out")))
        up.write("isolated.yaml", probers("Isolated", "target", "intruder"))
        eventually(lambda: networks() == 3 and probe())
        processes = children_of(up.process.pid)
        assert up.stop() == 0
    assert not runtime.exists()
    assert not [pid for pid in processes if alive(pid)]
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(runtime) not in mounts
    assert str(up.state.resolve()) not in mounts


@needs_namespaces
def test_where_it_is_not_allowed_all_goes_on_in_the_machines_network(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    files = {"edge.yaml": EDGE, "isolated.yaml": probers("Isolated", "target")}
    up = Up(tmp_path, files, through=NO_NAMESPACES)
    with up:
        mesh = Mesh(up)
        assert up.workload("target")["isolated"] is False
        assert mesh.ask("target")
        assert not refused(mesh.port("target"))
        (said,) = [line for line in up.output.splitlines() if line.startswith("isthmus: programs share")]
        assert said.partition(": ")[2].startswith("programs share the machine's network, their ports with it: ")
        assert "(target: in the machine's network)" in up.output
        command = (*ISTHMUS, "run", "--state", str(up.state), "--network", "isolated", "--", "true")
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (ran.returncode, "no network of its own" in ran.stderr) == (1, True)
