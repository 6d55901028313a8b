from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from isthmus.errors import Refused
from isthmus.proxy.child import Child, start_child
from isthmus.proxy.namespace import (
    Inside,
    Namespace,
    Refusals,
    inside_of,
    listens,
    of_process,
    redirection_refusal,
    refusal,
    refusals_once,
)
from isthmus.proxy.plan import Redirection

from .making import alive, until
from .namespaces import needs_namespaces, needs_redirection

pytestmark = needs_namespaces
GRACE = timedelta(seconds=5)
LISTENS = (
    "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('on', flush=True); s.accept()"
)
LISTENS_UNIX = (
    "import socket, sys; s = socket.socket(1); s.bind(sys.argv[1]); s.listen(); print('on', flush=True); input()"
)


async def output(*argv: str, inside: Inside | None = None, folder: Path | None = None) -> list[str]:
    child = await start_child(
        argv, stdout=-1, stderr=asyncio.subprocess.STDOUT, inside=inside, working_directory=folder
    )
    assert child.stdout is not None
    said = (await child.stdout.read()).decode().split("\n")
    await child.wait()
    return said[:-1]


async def started(*argv: str, inside: Inside | None = None) -> Child:
    """A Python program, once it has said ``on``."""
    child = await start_child((sys.executable, "-c", *argv), stdin=-1, stdout=-1, inside=inside)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"on\n"
    return child


async def test_who_is_in_it_is_the_same_user_with_a_loopback_of_its_own() -> None:
    namespace = Namespace()
    try:
        inside = await namespace.inside()
        assert await output("id", "-u", inside=inside) == [str(os.geteuid())]
        child = await started(LISTENS, "80", inside=inside)
        assert listens(child.pid, 80), "any port is free, and nobody's privilege"
        assert not listens(os.getpid(), 80)
        other = Namespace()
        twin = await started(LISTENS, "80", inside=await other.inside())
        for each in (child, twin):
            await each.end(GRACE)
        other.close()
        assert not listens(child.pid, 80)
    finally:
        namespace.close()


async def test_all_who_enter_one_are_in_the_same() -> None:
    namespace = Namespace()
    try:
        links = [await output("readlink", "/proc/self/ns/net", inside=await namespace.inside()) for _ in range(2)]
        hidden = await output("readlink", "/proc/self/ns/net", inside=await namespace.inside(Path("/proc")))
        assert links[0] == links[1] != [os.readlink("/proc/self/ns/net")]
        assert hidden != links[0], "what is hidden cannot be read"
    finally:
        namespace.close()


async def test_folders_are_hidden_but_for_where_it_starts(tmp_path: Path) -> None:
    secret, own = tmp_path / "secret", tmp_path / "programs" / "own"
    for folder in (secret, own):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    namespace = Namespace()
    try:
        inside = await namespace.inside(tmp_path)
        assert await output("find", str(tmp_path), inside=inside) == [str(tmp_path)]
        assert await output("find", str(tmp_path), "-type", "f", inside=inside, folder=own) == [str(own / "file")]
        assert await output("sh", "-c", "cd ../..; find . -type f", inside=inside, folder=own) == [
            "./programs/own/file"
        ]
        (said,) = await output("true", inside=inside, folder=tmp_path)
        assert said == f"{tmp_path}: the program would start in a folder that is hidden from it"
    finally:
        namespace.close()
    assert (secret / "file").exists()


async def test_it_ends_with_its_parent() -> None:
    code = (
        "import asyncio\n"
        "from isthmus.proxy.child import start_child\n"
        "from isthmus.proxy.namespace import Namespace\n"
        "async def main():\n"
        "    child = await start_child(('sleep', '60'), inside=await Namespace().inside())\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert alive(child)
    parent.kill()
    await parent.wait()
    await until(lambda: not alive(child))


async def test_a_program_that_is_not_there_is_named() -> None:
    namespace = Namespace()
    try:
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            await start_child(("no-such-program",), inside=await namespace.inside())
    finally:
        namespace.close()


async def test_where_the_listener_of_a_socket_is(tmp_path: Path) -> None:
    namespace = Namespace()
    here, there = tmp_path / "here", tmp_path / "there"
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind(str(here))
        ours.listen()
        assert inside_of(here) is None
    child = await started(LISTENS_UNIX, str(there), inside=await namespace.inside())
    found = inside_of(there)
    assert found is not None
    assert await output("readlink", "/proc/self/ns/net", inside=found) == [os.readlink(f"/proc/{child.pid}/ns/net")]
    found.close()
    await child.end(GRACE)
    namespace.close()
    with pytest.raises(ConnectionRefusedError):
        inside_of(there)


def test_a_process_that_is_gone_has_no_namespaces() -> None:
    with pytest.raises(Refused, match="cannot be entered"):
        of_process(2**22 + 1)
    assert not listens(2**22 + 1, 80)


async def test_it_says_why_it_cannot_be(tmp_path: Path) -> None:
    assert await refusal(tmp_path) is None
    code = (
        "import asyncio, pathlib\n"
        "from isthmus.proxy.namespace import refusal\n"
        "print(asyncio.run(refusal(pathlib.Path('/tmp'))))\n"
    )
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    (said,) = await output("unshare", "-Ur", "sh", "-c", forbid, "sh", sys.executable, "-c", code)
    assert said == "unshare: No space left on device"


async def test_what_the_system_answered_is_kept_for_the_user_alone(tmp_path: Path) -> None:
    first = await refusals_once(tmp_path)
    told = tmp_path / "isolation"
    assert told.stat().st_mode & 0o777 == 0o600
    assert (told.read_text() or None) == first.isolation
    assert ((tmp_path / "redirection").read_text() or None) == first.redirection
    told.write_text("not allowed here")
    assert await refusals_once(tmp_path) == Refusals("not allowed here", "not allowed here")
    assert sorted(os.listdir(tmp_path)) == ["isolation", "redirection"]


@needs_redirection
async def test_connections_and_dns_are_redirected_where_they_cannot_be_anywhere_else() -> None:
    namespace = Namespace(Redirection(connections=15006, names=15053))
    code = (
        "import socket, struct\n"
        "tcp = socket.create_server(('127.0.0.1', 15006)); udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "udp.bind(('127.0.0.1', 15053))\n"
        "socket.create_connection(('192.0.2.1', 80), 5); there, _ = tcp.accept()\n"
        "print(socket.inet_ntoa(there.getsockopt(0, 80, 16)[4:8]))\n"
        "asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); asking.sendto(b'name?', ('198.51.100.53', 53))\n"
        "print(udp.recv(99).decode())\n"
        "own = socket.create_server(('127.0.0.1', 0)); socket.create_connection(own.getsockname(), 5)\n"
        "print('loopback')\n"
    )
    try:
        said = await output(sys.executable, "-c", code, inside=await namespace.inside())
        assert said == ["192.0.2.1", "name?", "loopback"]
    finally:
        namespace.close()


UDP_6 = (
    "import errno, socket; asking = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
    "print(errno.errorcode[asking.connect_ex(('2001:db8::1', 9))])\n"
)
UDP_6_SENT = "import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'x', ('2001:db8::1', 9))"


@needs_redirection
async def test_ipv6_is_no_way_around_the_redirection() -> None:
    namespace = Namespace(Redirection(connections=15006, names=15053))
    try:
        inside = await namespace.inside()
        assert await output(sys.executable, "-c", UDP_6, inside=inside) == ["ENETUNREACH"]
        if os.geteuid() == 0 and shutil.which("ip") is not None:
            # Whoever has a route in it all the same: what is sent is told apart from what is lost.
            assert await output("ip", "-6", "route", "add", "local", "default", "dev", "lo", inside=inside) == []
            said = await output(sys.executable, "-c", UDP_6_SENT, inside=inside)
            assert said[-1] == "PermissionError: [Errno 1] Operation not permitted"
    finally:
        namespace.close()


async def test_why_connections_cannot_be_redirected_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert await redirection_refusal() == "nft is not installed: connections cannot be redirected"
