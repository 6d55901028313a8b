"""Whatever dies, under load, is back; what is broken below it is told once; and nobody else's requests fail."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.real.changing import GATEWAY, SIDECAR, Changing, changing, routes
from tests.real.load import Load
from tests.real.up import ISTHMUS, Up, alive, arguments_of, children_of, eventually, isthmus

pytestmark = [pytest.mark.real, pytest.mark.alone]

_LONG = 90.0
"""Seconds for a machine whose cores are busy; what was measured is printed."""
_MOUNTED = 'mount -t tmpfs -o size=6m,mode=0700 none "$0" && exec "$@"'


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    with changing(tmp_path_factory.mktemp("supervision")) as running:
        yield running


def warm(load: Load) -> float:
    """Wait until it runs well; the time of then."""
    before = load.sent
    eventually(lambda: load.sent >= before + 100, seconds=_LONG)
    return load.now


def tell(what: str, seconds: float, load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{what}: {seconds * 1e3:.0f} ms; {load.summary()}")


@pytest.mark.parametrize("proxy", [GATEWAY, SIDECAR])
def test_an_envoy_that_is_killed_twice_costs_its_own_requests_alone(
    mesh: Changing, proxy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with mesh.load() as load:
        for again in ("killed", "killed again"):
            start = warm(load)
            before = mesh.kill(proxy)
            eventually(lambda before=before: mesh.pid(proxy) != before and mesh.status() == 200, seconds=_LONG)
            end = load.now
            tell(f"{proxy} {again}", end - start, load, capsys)
            assert warm(load) > end
            assert load.between(end + 0.5, load.now) == [], "after it is back"
            assert load.between(0.0, start) == [] or again == "killed again", "before it was killed"
    broken = {"connect: ConnectionRefusedError", "connect: ConnectionResetError", "ConnectionResetError"}
    broken |= {"IncompleteReadError"}
    if proxy == GATEWAY:
        assert load.reasons.keys() <= broken
    else:
        assert all(reason.startswith("503 ") for reason in load.reasons), "the gateway answers for it"


def test_without_its_sidecar_the_app_is_not_reached_at_all(mesh: Changing) -> None:
    envoy = mesh.pid(SIDECAR)
    # Nobody is to start another one meanwhile.
    os.kill(mesh.up.process.pid, signal.SIGSTOP)
    try:
        os.kill(envoy, signal.SIGKILL)
        eventually(lambda: mesh.status() == 503)
        before = mesh.app.answered
        assert {mesh.status() for _ in range(20)} == {503}
        assert mesh.app.answered == before
    finally:
        os.kill(mesh.up.process.pid, signal.SIGCONT)
    eventually(lambda: mesh.status() == 200)
    assert mesh.pid(SIDECAR) != envoy


def test_no_traffic_notices_that_the_agent_is_killed_twice(mesh: Changing, capsys: pytest.CaptureFixture[str]) -> None:
    with mesh.load() as load, mesh.load(443) as secured:
        warm(load)
        for _ in range(2):
            start, before = load.now, mesh.kill("agent")
            eventually(lambda before=before: mesh.pid("agent") != before, seconds=_LONG)
            tell("agent killed", load.now - start, load, capsys)
            warm(secured)
    assert load.failures == []
    assert secured.failures == []


def test_traffic_goes_on_while_the_control_plane_is_killed_twice(
    mesh: Changing, capsys: pytest.CaptureFixture[str]
) -> None:
    with mesh.load() as load:
        warm(load)
        for edit in ("first", "second"):
            start, before = load.now, mesh.kill("serve")
            mesh.up.write("routes.yaml", routes(edit))
            eventually(lambda before=before: mesh.pid("serve") != before, seconds=_LONG)
            eventually(lambda edit=edit: mesh.in_sync() and mesh.edit() == edit, seconds=_LONG)
            tell("control plane killed, in sync and changed", load.now - start, load, capsys)
    assert load.failures == []


def test_endpoints_that_come_and_go_while_the_control_plane_is_away(
    mesh: Changing, capsys: pytest.CaptureFixture[str]
) -> None:
    with mesh.load() as load:
        warm(load)
        for count in (2, 1):
            before = mesh.kill("serve")
            mesh.endpoints(count)
            eventually(lambda before=before: mesh.pid("serve") != before, seconds=_LONG)
            eventually(lambda count=count: len(mesh.proxies()) == count + 1 and mesh.in_sync(), seconds=_LONG)
            eventually(lambda count=count: len(_envoys(mesh)) == count + 1, seconds=_LONG)
            warm(load)
        tell("endpoints changed while the control plane is away", load.now, load, capsys)
    assert load.failures == []


def _envoys(mesh: Changing) -> list[int]:
    return [pid for pid in children_of(mesh.up.process.pid) if "--config-path" in arguments_of(pid)]


@pytest.mark.parametrize("part", ["serve", "agent", GATEWAY])
def test_what_is_killed_while_everything_starts_is_started_again(mesh: Changing, tmp_path: Path, part: str) -> None:
    """On another state, with the manifests of the running one."""
    ready, state = tmp_path / "ready.json", tmp_path / "state"
    argv = [*ISTHMUS, "up", str(mesh.up.manifests), "--state", str(state), "--ready-file", str(ready)]
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    one = Changing(Up(tmp_path, {}), mesh.app, mesh.other)
    one.up.process = process
    try:
        pid = eventually(lambda: _started(process.pid, state, part), seconds=_LONG, every=0.005)
        os.kill(pid, signal.SIGKILL)
        eventually(ready.exists, seconds=_LONG)
        assert process.poll() is None
    finally:
        assert one.up.stop() == 0


def _started(supervisor: int, state: Path, part: str) -> int | None:
    for pid in children_of(supervisor):
        arguments = arguments_of(pid)
        gateway = part == GATEWAY and "--config-path" in arguments and "2" in arguments
        if arguments[1:4] == ["-m", "isthmus", part] or gateway:
            return pid
    return None


def test_a_state_that_is_deleted_while_it_is_used_is_there_again(mesh: Changing) -> None:
    state = mesh.up.state
    root = (state / "ca" / "root.pem").read_bytes()
    told = len(mesh.up.output)
    with mesh.load() as load, mesh.load(443) as secured:
        warm(load)
        # In one step: what writes there would make parts of it again while others go.
        state.rename(state.with_name("deleted"))
        shutil.rmtree(state.with_name("deleted"))
        eventually(lambda: (state / "ca" / "root.pem").exists() and (state / "ports.json").exists(), seconds=_LONG)
        assert (state / "ca" / "root.pem").read_bytes() == root
        eventually((state / ".gitignore").exists, seconds=_LONG)
        mesh.up.write("routes.yaml", routes("deleted"))
        eventually(lambda: mesh.edit() == "deleted", seconds=_LONG)
        listed = isthmus("proxies", "--state", str(state))
        assert listed.returncode == 0, listed.stderr
        before = mesh.kill("serve")
        eventually(lambda: mesh.pid("serve") != before and mesh.in_sync(), seconds=_LONG)
        eventually(lambda: (state / "log" / f"{GATEWAY}.access.log").stat().st_size > 0, seconds=_LONG)
        second = isthmus("up", str(mesh.up.manifests), "--state", str(state))
        assert second.returncode == 1
        assert "is held by process" in second.stderr
        warm(secured)
    assert load.failures == []
    assert secured.failures == []
    assert mesh.up.output[told:].count("was removed while it is in use") == 1


def test_ctrl_c_leaves_nothing_and_a_second_start_has_the_same_root(mesh: Changing) -> None:
    up, runtime = mesh.up, mesh.runtime
    root, edit = (up.state / "ca" / "root.pem").read_bytes(), mesh.edit()
    running = children_of(up.process.pid)
    assert len(running) == 4
    assert up.stop(signal.SIGINT) == 0
    assert not any(alive(pid) for pid in running)
    assert not {"lock", "run", "api.sock"} & {entry.name for entry in up.state.iterdir()}
    assert not runtime.exists()
    up.start()
    assert (up.state / "ca" / "root.pem").read_bytes() == root
    assert mesh.edit() == edit


def test_nothing_is_left_of_a_supervisor_that_is_killed_under_load(mesh: Changing) -> None:
    running, runtime = children_of(mesh.up.process.pid), mesh.runtime
    assert len(running) == 4
    with mesh.load() as load:
        warm(load)
        assert mesh.up.stop(signal.SIGKILL) == -signal.SIGKILL
        eventually(lambda: not any(alive(pid) for pid in running), seconds=_LONG)
    eventually(lambda: not runtime.exists(), seconds=_LONG)
    assert not {"lock", "run", "api.sock"} & {entry.name for entry in mesh.up.state.iterdir()}
    mesh.up.start()
    assert mesh.status() == 200


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    """With a state of 6 MiB on a file system of its own, in a mount namespace of its own."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "state").mkdir(mode=0o700)
    through = ("unshare", "-Urm", "sh", "-c", _MOUNTED, str(folder / "state"))
    tried = subprocess.run((*through, "true"), capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no file systems of one's own here: {tried.stderr.strip()}")
    with changing(folder, through=through) as running:
        # What is mounted there is seen by way of a process that has it mounted.
        running.up.state = Path(f"/proc/{running.up.process.pid}/root{running.up.state}")
        running.up.ready["ca_bundle"] = str(running.up.state / "ca" / "root.pem")
        yield running


def test_a_full_disk_stops_nothing_is_told_once_and_mends(small: Changing, capsys: pytest.CaptureFixture[str]) -> None:
    up, fill = small.up, small.up.state / "fill"
    access_log = up.state / "log" / f"{GATEWAY}.access.log"
    told = len(up.output)
    with small.load() as load:
        warm(load)
        _fill(fill)
        eventually(lambda: "cannot be written" in up.output[told:], seconds=_LONG)
        up.write("routes.yaml", routes("full"))
        eventually(lambda: small.edit() == "full", seconds=_LONG)
        small.endpoints(2)
        eventually(lambda: small.serves("app-2"), seconds=_LONG)
        for part in ("agent", "serve"):
            before = small.kill(part)
            eventually(lambda part=part, before=before: small.pid(part) != before and small.in_sync(), seconds=_LONG)
        time.sleep(2.0)
        full = up.output[told:]
        assert full.count("cannot be written") == 1
        assert full.count("No space left on device") <= 4, full
        assert "Traceback" not in full
        fill.unlink()
        size = access_log.stat().st_size
        eventually(lambda: access_log.stat().st_size > size, seconds=_LONG)
        eventually(lambda: "the state is written again" in up.output[told:], seconds=_LONG)
        eventually(lambda: "app-2" in (up.state / "manifests" / "last-good.json").read_text(), seconds=_LONG)
    tell("disk full", load.seconds, load, capsys)
    assert load.failures == []
    assert all(line.startswith("{") and line.endswith("}") for line in access_log.read_text().splitlines())


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as filling:
        with suppress(OSError):
            while True:
                filling.write(bytes(4096))


def test_a_state_that_can_only_be_read_stops_nothing(small: Changing) -> None:
    up, told = small.up, len(small.up.output)
    inside = ("nsenter", "-t", str(up.process.pid), "-U", "-m", "--preserve-credentials")
    state = str(up.folder / "state")
    subprocess.run((*inside, "mount", "--bind", state, state), check=True)
    subprocess.run((*inside, "mount", "-o", "remount,bind,ro", state), check=True)
    with small.load() as load:
        warm(load)
        small.endpoints(1)
        up.write("routes.yaml", routes("read-only"))
        eventually(lambda: small.edit() == "read-only", seconds=_LONG)
        for part in ("agent", "serve"):
            before = small.kill(part)
            eventually(lambda part=part, before=before: small.pid(part) != before and small.in_sync(), seconds=_LONG)
    assert load.failures == []
    before = small.kill(SIDECAR)
    eventually(lambda: small.pid(SIDECAR) != before and small.status() == 200, seconds=_LONG)
    assert "Traceback" not in up.output[told:]
    subprocess.run((*inside, "umount", state), check=True)
