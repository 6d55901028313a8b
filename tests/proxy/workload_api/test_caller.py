from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.errors import NotEnrolled
from isthmus.proxy.workload_api.caller import Attestor, Peer, ancestors_of, process_of, unit_in

linux = pytest.mark.skipif(sys.platform != "linux", reason="peers are told by /proc")


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/orders.service\n", "orders.service"),
        ("0::/system.slice/system-orders.slice/orders@1.service\n", "orders@1.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"),
        # A user's own manager may run a unit of any name.
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/orders.service\n", "user@1000.service"),
        ("0::/system.slice/other.service/orders.service\n", "other.service"),
        # A container engine names its groups as it likes.
        ("0::/docker/orders.service\n", None),
        ("0::/../orders.service\n", None),
        ("0::/\n", None),
        ("4:memory:/x\n1:name=systemd:/system.slice/orders.service\n0::/\n", "orders.service"),
        ("12:pids:/system.slice/orders.service\n", None),
        ("", None),
        ("noise", None),
    ],
)
def test_units_of_the_system(cgroups: str, unit: str | None) -> None:
    assert unit_in(cgroups) == unit


def connected_by(*argv: str) -> tuple[Peer, subprocess.Popen[bytes]]:
    """The peer of a connection that another process opens; it then waits for its input to end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind("\0isthmus-test-" + os.urandom(8).hex())
        listening.listen()
        script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.stdin.read()"
        name = listening.getsockname().decode()
        code = script.replace("sys.argv[1]", repr(name))
        child = subprocess.Popen((*argv, "-c", code), stdin=subprocess.PIPE)
        accepted, _ = listening.accept()
        with accepted:
            return Peer(accepted), child


@linux
def test_what_is_known_of_a_process() -> None:
    peer, child = connected_by(sys.executable)
    try:
        caller = Attestor().attest(peer, digest=True)
        executable = Path(sys.executable).resolve()
        assert (caller.pid, caller.uid, caller.gid) == (child.pid, os.geteuid(), os.getegid())
        assert caller.path == str(executable)
        assert caller.sha256 == hashlib.sha256(executable.read_bytes()).hexdigest()
        assert process_of(os.getpid()) in caller.ancestors
        assert Attestor().attest(peer, digest=False).sha256 is None
    finally:
        child.communicate()
    assert not peer.lives
    with pytest.raises(NotEnrolled, match="ended"):
        Attestor().attest(peer, digest=False)


@linux
def test_nobody_has_us_read_for_an_hour(tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    shutil.copy(Path(sys.executable).resolve(), huge)
    os.truncate(huge, 1 << 40)
    peer, child = connected_by("env", f"PYTHONHOME={sys.base_prefix}", str(huge))
    try:
        caller = Attestor().attest(peer, digest=True)
        assert (caller.path, caller.sha256) == (str(huge), None)
    finally:
        child.communicate()
        peer.close()
    peer.close()
    assert not peer.lives, "closed is gone"


@linux
def test_an_executable_that_was_replaced_has_no_path(tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    shell.write_bytes(Path("/bin/sh").read_bytes())
    shell.chmod(0o755)
    child = subprocess.Popen((shell, "-c", "read x"), stdin=subprocess.PIPE)
    try:
        here, there = socket.socketpair()
        with here, there:
            peer = Peer(here)
            assert peer.lives, "ourselves"
            peer.pid = child.pid
            assert Attestor().attest(peer, digest=False).path == str(shell)
            shell.unlink()
            shell.write_text("another")
            assert Attestor().attest(peer, digest=False).path is None
            peer.close()
    finally:
        child.communicate()


@linux
def test_ancestors_end_at_the_first_process() -> None:
    found = ancestors_of(os.getpid())
    assert found[0] == process_of(os.getpid())
    assert found[1] == process_of(os.getppid())
    assert ancestors_of(2**22 + 1) == ()
    assert process_of(2**22 + 1) is None
