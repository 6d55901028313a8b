"""What runs otherwise than declared, on real Envoys: found, named, and said to be mended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.proxy.envoy import find_envoy
from isthmus.proxy.place import Folders
from isthmus.xds.relay import RELAY_ID
from tests.kinds.credential import pair, secret
from tests.proxy.namespaces import WHY_NOT
from tests.real.backend import Backend
from tests.real.traffic import Manifest, dump, gateway, manifest, server
from tests.real.up import Up, children_of, eventually, free_port, isthmus

pytestmark = pytest.mark.real

LEDGER = "sidecar~bank~ledger"
PATIENCE = 60.0


def program(name: str, port: int) -> Manifest:
    spec = {"labels": {"app": name}, "ports": [{"name": "http", "number": 8080, "listen": port}]}
    return manifest("LocalWorkload", name, spec, "bank")


def sleeper() -> Manifest:
    """A program in a network of its own: its way out is the relay."""
    return manifest(
        "LocalWorkload", "sleeper", {"command": ["sleep", "infinity"], "labels": {"app": "sleeper"}}, "bank"
    )


def tls(mode: str, *host: str, **more: Any) -> Manifest:
    return server(443, *host, protocol="HTTPS", name=f"https-{mode.lower()}", tls={"mode": mode, **more})


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Backend() as backend:
        chain, key = pair("edge")
        servers = (
            server(80),
            tls("MUTUAL", "a.example.com", credentialName="own"),
            tls("SIMPLE", "b.example.com", credentialName="development"),
        )
        own = secret("own", "bank", tls_crt=chain, tls_key=key, ca_crt=chain)
        bank = dump(program("ledger", backend.port), sleeper(), gateway("edge", *servers, namespace="bank"))
        manifests = {"bank.yaml": bank, "secret.yaml": own}
        with Up(tmp_path_factory.mktemp("drift"), manifests) as running:
            yield running


def drift(up: Up) -> list[dict[str, str]]:
    found: list[dict[str, str]] = _api(up, "/v1/drift").json()
    return found


def _api(up: Up, path: str) -> httpx.Response:
    socket = str((up.state / "api.sock").resolve())
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=socket, verify=False), base_url="http://plane", timeout=40
    ) as client:
        return client.get(path)


def admin(up: Up, method: str, path: str, proxy: str = LEDGER) -> httpx.Response:
    socket = str(Folders(up.state, Path(up.workload("ledger")["admin_socket"]).parent).admin_socket(proxy))
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=socket, verify=False), base_url="http://envoy", timeout=30
    ) as client:
        return client.request(method, path)


def gauge(up: Up, kind: str) -> float:
    text = httpx.get(f"{up.ready['control_plane']['http']}/metrics", trust_env=False, timeout=30, verify=False).text
    wanted = f'isthmus_drift{{kind="{kind}",proxy="{LEDGER}"}}'
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(wanted))


def test_nothing_differs_while_manifests_change(up: Up) -> None:
    for turn in range(3):
        rule = {"to": [{"operation": {"paths": [f"/{turn}"]}}]}
        policy = manifest("AuthorizationPolicy", "policy", {"action": "DENY", "rules": [rule]}, "bank")
        entry = {
            "hosts": [f"host-{turn}.example.com"],
            "resolution": "DNS",
            "ports": [{"number": 80 + turn, "name": "http", "protocol": "HTTP"}],
        }
        more = gateway("more", server(9000 + turn), namespace="bank")
        up.write("more.yaml", dump(policy, manifest("ServiceEntry", "outside", entry, "bank"), more))
        eventually(lambda: f"host-{turn}.example.com" in _api(up, "/v1/proxies/ledger/config").text)  # noqa: B023
        assert drift(up) == []
    up.remove("more.yaml")
    told = isthmus("drift", "--live", "-o", "json", "--state", str(up.state))
    assert (told.returncode, json.loads(told.stdout)) == (0, [])
    assert "ALARM" not in up.output


def test_what_the_admin_interface_changes_is_found_and_seen_mended(up: Up) -> None:
    assert admin(up, "POST", "/runtime_modify?overload.global_downstream_max_connections=1").status_code == 503
    admin(up, "POST", "/healthcheck/fail")
    admin(up, "POST", "/logging?level=debug")
    admin(up, "POST", "/drain_listeners")
    if WHY_NOT is None:
        admin(up, "POST", "/logging?level=debug", RELAY_ID)
    told = isthmus("drift", "--live", "--state", str(up.state))
    assert told.returncode == 1
    assert f"{LEDGER}: state server: LIVE → DRAINING (ISM8004)" in told.stdout
    expected = {
        (LEDGER, "state", "server", "ISM8004"),
        (LEDGER, "state", "log level", "ISM8004"),
        (LEDGER, "state", "listeners", "ISM8004"),
    }
    if WHY_NOT is None:
        expected.add((RELAY_ID, "state", "log level", "ISM8004"))
    assert {(one["proxy"], one["kind"], one["name"], one["code"]) for one in drift(up)} == expected
    assert gauge(up, "state") == 3
    assert up.output.count(f"ALARM: ISM8004 {LEDGER}: state server: LIVE → DRAINING") == 1
    if WHY_NOT is None:
        admin(up, "POST", "/logging?level=warning", RELAY_ID)
    os.kill(_envoy(up), signal.SIGKILL)
    eventually(lambda: drift(up) == [], PATIENCE)
    assert up.output.count(f"mended: ISM8004 {LEDGER}: state server: LIVE → DRAINING") == 1
    assert gauge(up, "state") == 0


def _bootstrap(up: Up) -> Path:
    return Path(up.workload("ledger")["admin_socket"]).with_suffix(".json")


def _envoy(up: Up) -> int:
    """The process behind the ledger's admin socket."""
    path = _bootstrap(up)
    for pid in children_of(up.process.pid):
        if str(path) in (Path("/proc") / str(pid) / "cmdline").read_text().split("\0"):
            return pid
    raise AssertionError("no Envoy of the ledger")


def test_an_envoy_with_another_bootstrap_is_found(up: Up, tmp_path: Path) -> None:
    """Who edits the file and starts the Envoy with it, in the place of the one that the supervisor started."""
    document: dict[str, Any] = json.loads(_bootstrap(up).read_text())
    port = free_port()
    echo = {
        "name": "envoy.filters.network.echo",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"},
    }
    document["static_resources"]["listeners"] = [
        {
            "name": "backdoor",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [echo]}],
        }
    ]
    document["layered_runtime"]["layers"].append({"name": "admin", "admin_layer": {}})
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(document))
    pid = _envoy(up)
    # The supervisor's own stands still while the other has its admin socket.
    os.kill(pid, signal.SIGSTOP)
    Path(document["admin"]["address"]["pipe"]["path"]).unlink()
    argv = [str(find_envoy()), "-c", str(edited), "--disable-hot-restart", "--concurrency", "1", "-l", "critical"]
    other = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        found = eventually(lambda: {(one["kind"], one["name"], one["code"]) for one in drift(up)}, PATIENCE)
        assert ("bootstrap", "bootstrap", "ISM8003") in found
        assert ("option", "config_path", "ISM8003") in found
        assert ("listener", "backdoor", "ISM8001") in found
        assert gauge(up, "listener") >= 1
        assert "static_resources.listeners" in up.output
    finally:
        other.kill()
        other.wait()
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: drift(up) == [], PATIENCE)
