from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from isthmus.proxy.child import group_lives, start_child

from .making import alive, until

SHORT = timedelta(milliseconds=300)


async def test_environment_is_added_to_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OURS", "one")
    child = await start_child(
        ("sh", "-c", "echo $OURS $THEIRS; pwd"),
        env={"THEIRS": "two"},
        working_directory=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    assert (await child.stdout.read()).decode().split() == ["one", "two", str(tmp_path)]
    assert await child.wait() == 0


async def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        await start_child(("no-such-program",))


async def test_its_own_children_end_too() -> None:
    child = await start_child(("sh", "-c", "sleep 60 & echo $!; wait"), stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    grandchild = int(await child.stdout.readline())
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    assert await child.end(timedelta(seconds=5)) == -signal.SIGTERM
    await until(lambda: not alive(grandchild))


async def test_one_that_ignores_the_signal_is_killed() -> None:
    child = await start_child(("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"), stdout=-1)
    assert child.stdout is not None
    await child.stdout.readline()
    assert await child.end(SHORT) == -signal.SIGKILL
    await until(lambda: not group_lives(child.pid))


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_it_ends_when_its_parent_is_killed() -> None:
    code = (
        "import asyncio\n"
        "from isthmus.proxy.child import start_child\n"
        "async def main():\n"
        "    child = await start_child(('sleep', '60'))\n"
        "    print(child.pid, flush=True)\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: not alive(pid))
