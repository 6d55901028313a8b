from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from isthmus.errors import StateHeld, StateUnusable
from isthmus.state import SOCKET_PATH_MAX_BYTES, StateDir


@pytest.fixture(autouse=True)
def runtime_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.at(tmp_path / "deep/state").open()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


class TestOpen:
    def test_makes_a_private_folder_that_git_ignores(self, tmp_path: Path) -> None:
        state = StateDir.at(tmp_path / "a/b/state").open()
        assert mode(state.path) == 0o700
        assert (state.path / ".gitignore").read_text().splitlines()[-1] == "*"
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
        state.write_private("ca/root.key", b"secret")
        status = ["git", "-C", str(tmp_path), "status", "--porcelain", "--untracked-files=all"]
        assert subprocess.run(status, capture_output=True, check=True).stdout == b""

    def test_takes_away_what_others_may(self, state: StateDir) -> None:
        state.path.chmod(0o755)
        state.open()
        assert mode(state.path) == 0o700

    def test_is_absolute_wherever_the_process_goes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert StateDir.at(".isthmus").path == tmp_path / ".isthmus"

    def test_making_the_value_touches_nothing(self, tmp_path: Path) -> None:
        StateDir.at(tmp_path / "state")
        assert list(tmp_path.iterdir()) == []

    def test_refuses_a_folder_with_other_things_in_it(self, tmp_path: Path) -> None:
        (tmp_path / "orders.yaml").write_text("kind: Service")
        tmp_path.chmod(0o755)
        with pytest.raises(StateUnusable, match=r"not a state directory of Isthmus: it holds 'orders\.yaml'"):
            StateDir.at(tmp_path).open()
        assert mode(tmp_path) == 0o755
        assert not (tmp_path / ".gitignore").exists()

    def test_refuses_a_folder_with_a_gitignore_of_its_own(self, tmp_path: Path) -> None:
        (tmp_path / ".gitignore").write_text("*.pyc\n")
        with pytest.raises(StateUnusable, match=r"it holds '\.gitignore'"):
            StateDir.at(tmp_path).open()

    def test_a_users_own_authority_may_be_there_already(self, tmp_path: Path) -> None:
        (tmp_path / "state/ca").mkdir(parents=True)
        StateDir.at(tmp_path / "state").open()
        assert (tmp_path / "state/.gitignore").exists()
        assert (tmp_path / "state/ca").is_dir()

    def test_what_a_crash_left_of_its_own_mark_does_not_stop_it(self, tmp_path: Path) -> None:
        (tmp_path / "..gitignore.0011aabb").write_text("")
        StateDir.at(tmp_path).open()
        assert (tmp_path / ".gitignore").exists()

    def test_says_why_it_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(StateUnusable, match=r"file.*: (Not a directory|File exists)"):
            StateDir.at(tmp_path / "file").open()
        with pytest.raises(StateUnusable, match="Not a directory"):
            StateDir.at(tmp_path / "file/state").open()


class TestFiles:
    def test_written_private_and_read_back(self, state: StateDir) -> None:
        old = os.umask(0)
        try:
            state.write_private("a/b/c.json", b"one")
        finally:
            os.umask(old)
        assert state.read("a/b/c.json") == b"one"
        assert mode(state.path / "a/b/c.json") == 0o600
        assert (mode(state.path / "a"), mode(state.path / "a/b")) == (0o700, 0o700)

    def test_replaced_whole(self, state: StateDir) -> None:
        state.write_private("file", b"a long first version")
        reader = (state.path / "file").open("rb")
        state.write_private("file", b"second")
        with reader:
            assert reader.read() == b"a long first version", "whoever has the old one open keeps the old one"
        assert state.read("file") == b"second"
        assert not [path for path in state.path.iterdir() if path.name.startswith(".file")]

    def test_a_write_that_fails_leaves_nothing(self, state: StateDir) -> None:
        (state.path / "folder/inside").mkdir(parents=True)
        with pytest.raises(StateUnusable, match="folder"):
            state.write_private("folder", b"x")
        assert sorted(path.name for path in state.path.iterdir()) == [".gitignore", "folder"]

    def test_a_file_that_is_not_there_is_none(self, state: StateDir) -> None:
        assert state.read("ca/root.pem") is None

    def test_one_that_cannot_be_read_says_why(self, state: StateDir) -> None:
        (state.path / "folder").mkdir()
        with pytest.raises(StateUnusable, match="folder: Is a directory"):
            state.read("folder")

    @pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "."])
    def test_no_name_leads_out(self, state: StateDir, name: str) -> None:
        with pytest.raises(ValueError, match="not a name within"):
            state.write_private(name, b"x")

    def test_a_folder_in_one_step(self, state: StateDir) -> None:
        state.write_folder("ca", {"a": b"1", "b": b"2"})
        assert (state.read("ca/a"), state.read("ca/b")) == (b"1", b"2")
        assert (mode(state.path / "ca"), mode(state.path / "ca/a")) == (0o700, 0o600)
        with pytest.raises(StateUnusable):
            state.write_folder("ca", {"c": b"3"})
        assert sorted(path.name for path in state.path.iterdir()) == [".gitignore", "ca"]
        assert state.read("ca/c") is None

    def test_moved_and_removed(self, state: StateDir) -> None:
        state.write_private("old", b"1")
        state.write_private("new", b"2")
        state.move("new", "old")
        assert (state.read("old"), state.read("new")) == (b"2", None)
        state.remove("old")
        state.remove("old")
        assert state.read("old") is None


HOLDER = """
import sys, subprocess
from isthmus.state import StateDir
held = StateDir.at(sys.argv[1]).hold("up")
(held.runtime / "api.sock").write_text("")
child = subprocess.Popen(["sleep", "60"]) if len(sys.argv) > 2 else None
print(held.runtime, child.pid if child else 0, flush=True)
sys.stdin.read()
held.release()
"""


def start_holder(path: Path, *more: str) -> tuple[subprocess.Popen[str], Path, int]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    runtime, child = process.stdout.readline().split()
    process.stdout.close()
    return process, Path(runtime), int(child)


class TestHold:
    def test_a_second_holder_is_told_who_the_first_is(self, state: StateDir) -> None:
        with state.hold("up"):
            with pytest.raises(StateHeld, match=rf"{state.path} is held by process {os.getpid()} \(up\)"):
                StateDir.at(state.path).hold("serve")
            # Who only reads is not in anybody's way.
            StateDir.at(state.path).open()
        state.hold("serve").release()

    def test_nothing_is_left_behind(self, state: StateDir) -> None:
        held = state.hold("up")
        (held.runtime / "x.sock").write_text("")
        assert mode(held.runtime) == 0o700
        held.release()
        held.release()
        assert not held.runtime.exists()
        assert [path.name for path in state.path.iterdir()] == [".gitignore"]

    def test_releasing_twice_takes_nothing_from_the_next_holder(self, state: StateDir) -> None:
        first = state.hold("up")
        first.release()
        with state.hold("up"):
            first.lock.release()
            with pytest.raises(StateHeld):
                state.hold("up")

    def test_a_lock_whose_file_the_last_holder_just_removed_is_taken_anew(
        self, state: StateDir, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flock = fcntl.flock

        def flock_just_after_a_release(descriptor: int, operation: int) -> None:
            monkeypatch.undo()
            (state.path / "lock").unlink()
            flock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", flock_just_after_a_release)
        with state.lock("up"), pytest.raises(StateHeld):
            state.lock("up")

    def test_another_process_holds_until_it_ends(self, state: StateDir) -> None:
        process, runtime, _ = start_holder(state.path)
        try:
            with pytest.raises(StateHeld, match=rf"process {process.pid} \(up\)"):
                state.hold("up")
            assert state.runtime == runtime
            assert state.api_socket == runtime / "api.sock"
        finally:
            process.communicate()
        assert process.returncode == 0
        assert not runtime.exists()
        state.hold("up").release()

    def test_a_killed_holder_is_cleaned_up_after(self, state: StateDir) -> None:
        process, runtime, child = start_holder(state.path, "with a child")
        try:
            process.kill()
            process.communicate()
            assert runtime.exists()
            # Its own child lives on, and does not hold the state.
            with state.hold("up") as held:
                assert not runtime.exists()
                assert held.runtime != runtime
                assert state.runtime == held.runtime
        finally:
            os.kill(child, signal.SIGKILL)

    @pytest.mark.parametrize(("name", "mode"), [("precious", 0o700), ("isthmus-of-mine", 0o755)])
    def test_a_link_that_leads_elsewhere_is_not_followed(
        self, state: StateDir, tmp_path: Path, name: str, mode: int
    ) -> None:
        precious = tmp_path / name
        precious.mkdir()
        precious.chmod(mode)
        (precious / "file").write_text("kept")
        (state.path / "run").symlink_to(precious)
        state.hold("up").release()
        assert (precious / "file").read_text() == "kept"

    def test_the_state_gone_meanwhile_is_no_fault(self, state: StateDir) -> None:
        held = state.hold("up")
        for path in state.path.iterdir():
            path.unlink()
        state.path.rmdir()
        held.release()
        assert not held.runtime.exists()

    def test_something_of_the_users_in_the_way_lets_go_of_everything(
        self, state: StateDir, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (state.path / "run").mkdir()
        with tempfile.TemporaryDirectory(dir="/tmp") as short:
            monkeypatch.setenv("XDG_RUNTIME_DIR", short)
            with pytest.raises(StateUnusable, match="File exists"):
                state.hold("up")
            assert list(Path(short).iterdir()) == []
        (state.path / "run").rmdir()
        state.hold("up").release()

    def test_nobody_holding_it_there_is_no_runtime_folder(self, state: StateDir) -> None:
        with pytest.raises(StateUnusable, match="run: No such file"):
            _ = state.runtime
        assert state.api_socket == state.path / "api.sock"


class TestSockets:
    def test_the_api_socket_is_short_however_long_the_states_path_is(self, tmp_path: Path) -> None:
        state = StateDir.at(tmp_path / ("long" * 40) / "state")
        with state.hold("up") as held:
            address = state.api_socket
            assert address.parent == held.runtime
            assert len(os.fsencode(address)) <= SOCKET_PATH_MAX_BYTES - 40
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
                server.bind(str(address))
                server.listen()
                client.connect(str(StateDir.at(state.path).api_socket))
                # The link at the place that is documented leads there too.
                assert (state.path / "api.sock").resolve() == address.resolve()

    def test_in_the_users_runtime_folder_where_there_is_one(
        self, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with tempfile.TemporaryDirectory(dir="/tmp") as short:
            monkeypatch.setenv("XDG_RUNTIME_DIR", short)
            with state.hold("up") as held:
                assert held.runtime.parent == Path(short)
            assert list(Path(short).iterdir()) == []

    @pytest.mark.parametrize("value", ["", "relative", "/does/not/exist", "/tmp/" + "x" * 60])
    def test_in_tmp_where_that_is_no_use(self, state: StateDir, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
        with state.hold("up") as held:
            assert held.runtime.parent == Path("/tmp")
