"""Programs of this machine: what they are told, what they may call and who may use their proxy, on real Envoys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.cli.analyze import findings
from tests.real.backend import Backend, header
from tests.real.fields import enforces
from tests.real.traffic import Caller, Manifest, caller, dump, manifest, service
from tests.real.up import Up, eventually, free_port

pytestmark = pytest.mark.real

LOCAL = "LocalWorkload.spec."
UPSTREAMS = LOCAL + "upstreams[]."
TELLER = '''\
"""Tells how it was started, on every port that it was given."""
import json, os, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        told = {"argv": sys.argv[1:], "env": dict(os.environ), "folder": os.getcwd()}
        told |= {"port": self.server.server_port, "caller": self.headers.get("x-forwarded-client-cert")}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ports = {int(value) for name, value in os.environ.items() if name == "PORT" or name.startswith("PORT_")}
servers = [ThreadingHTTPServer(("127.0.0.1", port), Handler) for port in sorted(ports)]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
'''
TCP_PORT, UNKNOWN_PORT = 82, 99


def manifests(listen: int, bind: int, by_hand: int, folder: Path) -> str:
    first = {
        "labels": {"app": "teller"},
        "serviceAccount": "teller",
        "command": ["$(PYTHON)", "teller.py", "one"],
        "args": ["two", "$(GREETING)", "$$(GREETING)", "$(UNKNOWN)"],
        "env": {"GREETING": "hello", "COMBINED": "$(GREETING) on $(PORT)"},
        "workingDirectory": "programs",
        "ports": [{"name": "http", "number": 8080}, {"name": "http-b", "number": 9090, "listen": listen}],
    }
    second = {"command": ["$(PYTHON)", "programs/teller.py"], "ports": [{"name": "http", "number": 8080}]}
    teller = "teller.shop.svc.cluster.local"
    upstreams = [
        {"host": teller, "port": 80, "bind": f"127.0.0.3:{bind}"},
        {"host": teller, "port": 80},
        {"host": "teller", "port": 81, "bind": f"127.0.0.1:{bind}"},
        {"host": teller, "port": TCP_PORT, "bind": "127.0.0.2:0"},
        {"host": teller, "port": UNKNOWN_PORT},
        {"host": "nobody", "port": 80},
    ]
    ports = [("http", 80, "http"), ("http-b", 81, "http-b"), ("tcp-c", TCP_PORT, "http")]
    opened = [{"name": name, "port": number, "targetPort": target} for name, number, target in ports]
    return dump(
        manifest("LocalWorkload", "teller", first),
        manifest("LocalWorkload", "plain", second, labels={"app": "plain"}),
        # Started by nobody here; its labels are those of the metadata, for the spec gives none.
        manifest(
            "LocalWorkload",
            "by-hand",
            {"ports": [{"name": "http", "number": 8080, "listen": by_hand}]},
            labels={"app": "by-hand"},
        ),
        service("teller", ports=opened),
        service("plain", ports=[{"name": "http", "port": 80}]),
        service("by-hand", ports=[{"name": "http", "port": 80}]),
        service("spoken-for", selector={"app": "teller", "other": "label"}, ports=[{"name": "http", "port": 80}]),
        caller("front", folder, serviceAccount="front", upstreams=upstreams),
        caller("other", folder),
    )


def policy(mode: str) -> str:
    document = manifest("ConfigMap", "istio", None, "istio-system")
    del document["spec"]
    return dump({**document, "data": {"mesh": f"outboundTrafficPolicy: {{mode: {mode}}}"}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workloads")


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture(scope="module")
def listen() -> int:
    return free_port()


@pytest.fixture(scope="module")
def bind() -> int:
    return free_port()


@pytest.fixture(scope="module")
def up(folder: Path, backend: Backend, listen: int, bind: int) -> Iterator[Up]:
    programs = folder / "manifests" / "programs"
    programs.mkdir(parents=True)
    (programs / "teller.py").write_text(TELLER)
    with Up(folder, {"all.yaml": manifests(listen, bind, backend.port, folder)}) as running:
        yield running


@pytest.fixture(scope="module")
def front(up: Up, folder: Path) -> Caller:
    return Caller("front", folder)


def told(front: Caller, name: str, port: int = 80) -> dict[str, Any]:
    """What a teller tells, as soon as it listens."""
    url = f"http://{name}.shop.svc.cluster.local:{port}/"
    answer: httpx.Response = eventually(lambda: (found := front.get(url)).status_code == 200 and found)
    found: dict[str, Any] = answer.json()
    return found


@enforces(LOCAL + "command", LOCAL + "args", LOCAL + "env")
def test_command_arguments_and_environment(front: Caller) -> None:
    """With variables as Kubernetes has them."""
    found = told(front, "teller")
    assert found["argv"] == ["one", "two", "hello", "$(GREETING)", "$(UNKNOWN)"]
    assert found["env"]["GREETING"] == "hello"
    assert found["env"]["COMBINED"] == f"hello on {found['env']['PORT']}"
    plain = told(front, "plain")
    assert plain["argv"] == []
    assert not {"GREETING", "COMBINED"} & plain["env"].keys()


@enforces(LOCAL + "workingDirectory")
def test_working_directory_is_below_the_manifests(up: Up, front: Caller) -> None:
    assert Path(told(front, "teller")["folder"]) == up.manifests / "programs"
    assert Path(told(front, "plain")["folder"]) == up.manifests


@enforces(LOCAL + "ports[].name", LOCAL + "ports[].number", LOCAL + "ports[].listen")
def test_ports(up: Up, front: Caller, listen: int) -> None:
    """A sidecar for each; the program listens where it is told, or where the manifest says that it does."""
    first, second = told(front, "teller"), told(front, "teller", 81)
    env = first["env"]
    assert set(up.workload("teller")["inbound"]) == {"8080", "9090"}
    assert (first["port"], second["port"]) == (int(env["PORT"]), listen)
    assert (env["PORT_HTTP"], env["PORT_HTTP_B"]) == (env["PORT"], str(listen))
    # In a network of its own it can have the port that it declares; else it gets a free one of the machine.
    assert (int(env["PORT"]) == 8080) is up.workload("teller")["isolated"]
    assert "PORT_HTTP_B" not in told(front, "plain")["env"]
    assert front.status("http://spoken-for.shop.svc.cluster.local/") == 503


@enforces(LOCAL + "serviceAccount")
def test_service_account_is_the_identity(up: Up, front: Caller) -> None:
    by, _, uri = told(front, "teller")["caller"].partition(";")
    assert by == "By=spiffe://cluster.local/ns/shop/sa/teller"
    assert uri.endswith("URI=spiffe://cluster.local/ns/shop/sa/front")
    assert up.workload("plain")["spiffe_id"] == "spiffe://cluster.local/ns/shop/sa/default"


@enforces(LOCAL + "labels", LOCAL + "command")
def test_labels_are_what_services_select_by(front: Caller, folder: Path, backend: Backend) -> None:
    """Those of the spec, else those of the metadata; also of a program that is started by hand."""
    assert front.get("http://by-hand.shop.svc.cluster.local/").json()["backend"] == backend.name
    assert told(front, "plain")["argv"] == []
    assert front.status("http://spoken-for.shop.svc.cluster.local/") == 503
    assert Caller("other", folder).status("http://teller.shop.svc.cluster.local/") == 200


@enforces(UPSTREAMS + "host", UPSTREAMS + "port", UPSTREAMS + "bind")
def test_upstreams_are_ports_of_the_loopback(up: Up, front: Caller, bind: int, listen: int) -> None:
    told(front, "teller")
    first = front.env["UPSTREAM_TELLER_SHOP_SVC_CLUSTER_LOCAL_80"]
    over_tcp = front.env[f"UPSTREAM_TELLER_SHOP_SVC_CLUSTER_LOCAL_{TCP_PORT}"]
    assert (first.partition(":")[0], over_tcp.partition(":")[0]) == ("127.0.0.1", "127.0.0.2")
    with httpx.Client(trust_env=False, timeout=30, verify=False) as direct:
        found = direct.get(f"http://{first}/").json()
        assert found["caller"].endswith("URI=spiffe://cluster.local/ns/shop/sa/front")
        assert direct.get(f"http://127.0.0.1:{bind}/").json()["port"] == listen
        assert direct.get(f"http://127.0.0.3:{bind}/").json()["port"] == found["port"]
        assert direct.get(f"http://{over_tcp}/").status_code == 200
    assert 'no service named "nobody"' in up.output


@enforces(UPSTREAMS + "port", UPSTREAMS + "host")
def test_upstream_that_leads_nowhere_is_closed(up: Up, front: Caller) -> None:
    for name in (f"TELLER_SHOP_SVC_CLUSTER_LOCAL_{UNKNOWN_PORT}", "NOBODY_SHOP_SVC_CLUSTER_LOCAL_80"):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{front.env[f'UPSTREAM_{name}']}/", trust_env=False, timeout=30, verify=False)
    assert f'no port of teller.shop.svc.cluster.local named "{UNKNOWN_PORT}" (it has 80, 81, 82)' in up.output


@enforces(UPSTREAMS + "bind")
@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.0.2.1:80", "localhost"])
def test_upstream_is_bound_to_the_loopback_only(tmp_path: Path, address: str) -> None:
    """It lends the workload's identity to whoever reaches it."""
    file = tmp_path / "bound.yaml"
    upstream: Manifest = {"host": "teller", "port": 80, "bind": address}
    file.write_text(dump(manifest("LocalWorkload", "front", {"upstreams": [upstream]})))
    assert "ISM1106" in {found.code.id for found in findings([str(file)])}


def test_proxy_serves_its_own_workload_only(front: Caller, folder: Path, backend: Backend) -> None:
    """Another process has no credential, or another one; the program behind the call never sees it."""
    url, address = "http://by-hand.shop.svc.cluster.local/", front.env["http_proxy"].rpartition("@")[2]
    others = Caller("other", folder).env["http_proxy"].rpartition("@")[0]
    seen = len(backend.seen)
    for proxy in (f"http://{address}", f"http://w:guess@{address}", f"{others}@{address}"):
        with httpx.Client(proxy=proxy, trust_env=False, timeout=30, verify=False) as stranger:
            answer = stranger.get(url)
            assert answer.status_code == 407
            assert answer.headers["proxy-authenticate"].startswith("Basic ")
    assert len(backend.seen) == seen
    answer = front.get(url)
    assert answer.status_code == 200
    assert header(answer.json(), "proxy-authorization") is None


@enforces("ConfigMap.data.mesh.outboundTrafficPolicy.mode")
def test_hosts_that_are_no_service(up: Up, front: Caller, backend: Backend) -> None:
    """By default they are called as they are, in plaintext; with REGISTRY_ONLY nobody calls them."""
    unknown = f"http://anybody.localhost:{backend.port}/"
    assert front.get(unknown).json()["backend"] == backend.name
    assert header(front.get(unknown).json(), "x-forwarded-client-cert") is None
    assert front.status("http://nobody.invalid/") in (502, 503)
    up.write("mesh.yaml", policy("REGISTRY_ONLY"))
    eventually(lambda: front.status(unknown) == 502)
    assert "not in the registry" in front.get(unknown).text
    assert front.status("http://by-hand.shop.svc.cluster.local/") == 200
    up.write("mesh.yaml", policy("ALLOW_ANY"))
    eventually(lambda: front.status(unknown) == 200)
