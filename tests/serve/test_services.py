"""``isthmus serve`` as a process: how it starts, goes on and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.state import StateDir
from tests.real.up import contents

WAIT_SECONDS = 90.0
GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com]}]
"""
POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec: {rules: [{to: [{operation: {methods: [GET]}}]}]}
"""
BROKEN = POLICY.replace("spec: {", "spec: {action: DENNY, ")
UNRESOLVED = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example.com]
  gateways: [edge]
  http: [{route: [{destination: {host: nobody}}]}]
"""


def eventually(holds: Callable[[], Any], what: Callable[[], str] = str) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)
    return found


class Serve:
    """A control plane in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.manifests = folder / "shop"
        self.manifests.mkdir()
        self._log = folder / "serve.log"
        self._log.touch()

    @property
    def output(self) -> str:
        return self._log.read_text()

    def write(self, **texts: str) -> None:
        for name, text in texts.items():
            temporary = self.manifests / f".{name}"
            temporary.write_text(text)
            temporary.replace(self.manifests / f"{name}.yaml")

    def spawn(self, *options: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        self._log.write_bytes(b"")
        argv = (sys.executable, "-m", "isthmus", "serve", "shop", "--state", "state", *options)
        env = {name: value for name, value in os.environ.items() if name != "ISTHMUS_STATE"}
        with self._log.open("ab") as log:
            return subprocess.Popen(argv, stdin=stdin, stdout=log, stderr=log, cwd=self.manifests.parent, env=env)

    def end(self, *options: str) -> int:
        """Run to its end by itself; the exit code."""
        process = self.spawn(*options)
        try:
            return process.wait(WAIT_SECONDS)
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def running(self, *options: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
        process = self.spawn(*options, stdin=stdin)
        try:
            eventually(lambda: process.poll() is not None or self.answers(), lambda: self.output)
            assert process.poll() is None, self.output
            yield process
        finally:
            process.terminate()
            try:
                process.wait(WAIT_SECONDS)
            finally:
                process.kill()
                process.wait()

    def ask(self, path: str) -> Any:
        transport = httpx.HTTPTransport(uds=str(StateDir.at(self.state).api_socket), verify=False)
        with httpx.Client(transport=transport, base_url="http://control-plane", timeout=30) as http:
            return http.get(path).json()

    def answers(self) -> bool:
        try:
            return bool(self.ask("/v1/plan"))
        except (httpx.TransportError, FileNotFoundError):
            return False

    @property
    def codes(self) -> list[str]:
        return [found["code"] for found in self.ask("/v1/diagnostics")]

    @property
    def saved(self) -> set[str]:
        """The names of the last good documents."""
        path = self.state / "manifests" / "last-good.json"
        return {entry["ref"][2] for entry in json.loads(path.read_text())} if path.exists() else set()


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    return Serve(tmp_path)


def test_a_first_start_with_errors_starts_nothing(serve: Serve) -> None:
    serve.write(edge=GATEWAY, policy=BROKEN)
    assert serve.end() == 1
    assert "shop/policy.yaml:4:16: error ISM1106 AuthorizationPolicy/shop/readers spec.action" in serve.output
    assert "isthmus: 2 error(s) in the manifests: nothing is started" in serve.output
    assert "Traceback" not in serve.output
    assert serve.saved == set()
    assert {"run", "api.sock", "lock"} & {entry.name for entry in serve.state.iterdir()} == set()
    assert not (serve.state / "ca").exists(), "not even an authority is made"


def test_with_a_last_good_version_it_starts_from_that_and_says_so(serve: Serve) -> None:
    serve.write(edge=GATEWAY, policy=POLICY)
    with serve.running():
        assert serve.saved == {"edge", "readers"}
        root = (serve.state / "ca" / "root.pem").read_bytes()
    serve.write(policy=BROKEN)
    with serve.running():
        assert "going on with the last good version of what is broken" in serve.output
        assert {"ISM1106", "ISM2005"} <= set(serve.codes)
        assert "ISM2006" not in serve.codes, "what was there before is in force, nobody is denied"
        assert serve.saved == {"edge", "readers"}
        assert (serve.state / "ca" / "root.pem").read_bytes() == root, "started again, it goes on with the same root"


def test_a_last_good_document_survives_a_file_that_does_not_parse(serve: Serve) -> None:
    serve.write(edge=GATEWAY, policy=POLICY)
    with serve.running():
        pass
    serve.write(policy=POLICY + "\t- oops: [")
    with serve.running():
        assert "error ISM100" in serve.output
        deny = "ISM2006"
        assert deny not in serve.codes
        assert serve.saved == {"edge", "readers"}


def test_a_reference_that_does_not_resolve_stops_a_strict_start_only(serve: Serve) -> None:
    serve.write(edge=GATEWAY, routes=UNRESOLVED)
    assert serve.end("--strict") == 1
    assert "error IST0101" in serve.output
    assert "nothing is started" in serve.output
    with serve.running():
        assert "IST0101" in serve.codes
        assert [proxy["id"] for proxy in serve.ask("/v1/proxies")] == ["gateway~shop~edge"]


def test_while_running_a_break_is_told_and_mended_again(serve: Serve) -> None:
    serve.write(edge=GATEWAY, policy=POLICY)
    with serve.running():
        serve.write(policy=BROKEN)
        eventually(lambda: "ISM2005" in serve.codes, lambda: serve.output)
        assert "shop/policy.yaml:4:16: error ISM1106" in serve.output
        assert [proxy["id"] for proxy in serve.ask("/v1/proxies")] == ["gateway~shop~edge"]
        serve.write(policy=POLICY, new=BROKEN.replace("readers", "writers"))
        eventually(lambda: "ISM2006" in serve.codes and "ISM2005" not in serve.codes, lambda: serve.output)
        (serve.manifests / "new.yaml").unlink()
        eventually(lambda: not serve.codes, lambda: serve.output)
        assert serve.saved == {"edge", "readers"}


def test_a_second_one_on_the_same_state_says_who_holds_it(serve: Serve) -> None:
    serve.write(edge=GATEWAY)
    with serve.running() as first:
        assert serve.end() == 1
        assert f"is held by process {first.pid} (serve)" in serve.output
        assert "Traceback" not in serve.output
        assert serve.answers(), "the first goes on"


def test_a_state_directory_that_cannot_be_made(serve: Serve) -> None:
    serve.write(edge=GATEWAY)
    serve.state.write_text("a file")
    assert serve.end() == 1
    assert str(serve.state) in serve.output
    assert "Traceback" not in serve.output


def test_a_folder_with_other_things_is_no_state_directory(serve: Serve) -> None:
    serve.write(edge=GATEWAY)
    serve.state.mkdir()
    (serve.state / "photos").mkdir()
    assert serve.end() == 1
    assert "not a state directory of Isthmus: it holds 'photos'" in serve.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_is_left(serve: Serve, number: signal.Signals) -> None:
    serve.write(edge=GATEWAY)
    with serve.running() as process:
        runtime = StateDir.at(serve.state).runtime
        assert (runtime / "api.sock").exists()
        assert (runtime / "api.sock").stat().st_mode & 0o777 == 0o600
        process.send_signal(number)
        assert process.wait(WAIT_SECONDS) == 0
    assert not runtime.exists()
    assert {"run", "api.sock", "lock"} & {entry.name for entry in serve.state.iterdir()} == set()


def test_options_without_effect_are_named(serve: Serve) -> None:
    serve.write(edge=GATEWAY)
    with serve.running("-p", "18443:443", "-p", "shop/nobody:18080:80"):
        assert "-p 18443:443 has no effect: no gateway declares port 443" in serve.output
        assert "-p 18080:80 has no effect: no gateway shop/nobody declares port 80" in serve.output


def test_it_ends_with_its_supervisor(serve: Serve) -> None:
    """Whose pipe its standard input is, and who holds the state."""
    serve.write(edge=GATEWAY)
    with (
        StateDir.at(serve.state).hold("up"),
        serve.running("--supervisor", str(os.getpid()), stdin=subprocess.PIPE) as process,
    ):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert serve.answers(), "a terminal's Ctrl-C is for the supervisor"
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(WAIT_SECONDS) == 0
    assert "Traceback" not in serve.output


def test_no_private_key_leaves_the_folders_of_the_authority(serve: Serve) -> None:
    serve.write(edge=GATEWAY)
    with serve.running():
        keys = [file for file, content in contents(serve.state) if b"PRIVATE KEY" in content]
        assert keys
        assert {file.parent for file in keys} == {serve.state / "ca", serve.state / "jwt-svid"}
        assert {file.stat().st_mode & 0o777 for file in keys} == {0o600}
        assert "PRIVATE KEY" not in serve.output
