"""A whole supervisor as a process: control plane, agent, real Envoys and local programs, killed one by one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509

from isthmus.proxy.place import Folders
from isthmus.proxy.plan import Plan, PlannedProxy, PlannedWorkload
from tests.real.up import free_port

from . import making
from .making import ORDERS, USERS, alive, folders, on_wire, plan_of, until, uri_of, write_plan

pytestmark = pytest.mark.real


@dataclass
class Running:
    """A supervisor with its plan; ``ports``: of each proxy's listener."""

    places: Folders
    plan: Plan
    ports: dict[str, int]
    process: asyncio.subprocess.Process
    log: Path

    def change(self, plan: Plan) -> None:
        self.plan = replace(plan, version=self.plan.version + 1)
        write_plan(self.places, self.plan)

    async def serves(self, proxy: PlannedProxy) -> x509.Certificate:
        shown = await on_wire(self.ports[proxy.id])
        assert uri_of(shown) == [proxy.identity]
        return shown

    def children(self) -> dict[int, str]:
        """Every process that works on this runtime folder, but the supervisor itself."""
        found = {}
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                pid = int(entry.name)
                marked = str(self.places.runtime) in command or str(self.places.state) in command
                if marked and pid != self.process.pid and alive(pid):
                    found[pid] = command
        return found

    def pid(self, what: str) -> int:
        [pid] = [pid for pid, command in self.children().items() if what in command]
        return pid

    def said(self) -> str:
        return self.log.read_text()


def program(places: Folders) -> PlannedWorkload:
    """A local program with a child of its own, both of which name the state in their arguments."""
    script = f"sh -c 'while :; do sleep 0.2; done' {places.state}/grandchild & echo $GREETING; wait"
    return PlannedWorkload(ORDERS.id, "orders", "shop", ("sh", "-c", script), {"GREETING": "hello"}, str(places.state))


@asynccontextmanager
async def supervised(tmp_path: Path, *proxies: PlannedProxy, local: bool = False) -> AsyncIterator[Running]:
    with folders(tmp_path) as places:
        ports = {proxy.id: free_port() for proxy in (ORDERS, USERS)}
        ads_port = free_port()
        plan = plan_of(places, ads_port, *proxies, workloads=(program(places),) if local else ())
        write_plan(places, plan)
        log = tmp_path / "supervisor.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, making.__file__, "supervise", str(places.state), str(places.runtime)),
                *(str(ads_port), json.dumps(ports)),
                stdout=output,
                stderr=output,
            )
        running = Running(places, plan, ports, process, log)
        try:
            yield running
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            for pid in running.children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


async def test_each_that_is_killed_comes_back_and_nothing_is_left_in_the_end(tmp_path: Path) -> None:
    async with supervised(tmp_path, ORDERS, local=True) as running:
        first = await until(lambda: running.serves(ORDERS))
        output = running.places.state / "log" / "shop~orders.out"
        await until(lambda: output.exists() and output.read_text() == "hello\n")

        # Envoy.
        envoy = running.pid("/envoy ")
        os.kill(envoy, signal.SIGKILL)
        await until(lambda: not alive(envoy))
        assert await until(lambda: running.serves(ORDERS)) == first

        # The agent: no traffic notices, and its next life needs no token.
        agent, envoy = running.pid("proxy.agent"), running.pid("/envoy ")
        os.kill(agent, signal.SIGKILL)
        await until(lambda: running.serves(ORDERS))
        renewed = await until(lambda: other(running, first))
        assert renewed != first

        # The control plane: traffic goes on, and it is back for certificates.
        os.kill(running.pid("making.py serve"), signal.SIGKILL)
        assert await running.serves(ORDERS) == renewed
        running.change(replace(running.plan, proxies=(ORDERS, USERS)))
        await until(lambda: running.serves(USERS))
        assert running.pid(str(running.places.bootstrap(ORDERS.id))) == envoy

        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), 60) == 0, running.said()
        assert running.children() == {}
        left = [path.name for path in running.places.runtime.rglob("*") if path.suffix != ".sock"]
        assert sorted(left) == ["plan.json", "workload"], (
            "the folder of the Workload API's socket goes with the runtime's"
        )
        said = running.said()
        assert "sidecar~shop~orders: was ended by SIGKILL; starts again in 0.1 s" in said
        assert "Traceback" not in said


async def other(running: Running, old: x509.Certificate) -> x509.Certificate | None:
    shown = await running.serves(ORDERS)
    return None if shown == old else shown


async def test_what_leaves_the_plan_is_drained_and_may_come_back(tmp_path: Path) -> None:
    async with supervised(tmp_path, ORDERS, USERS) as running:
        await until(lambda: running.serves(ORDERS))
        await until(lambda: running.serves(USERS))
        running.change(replace(running.plan, proxies=(ORDERS,)))
        await until(lambda: len([one for one in running.children().values() if "/envoy " in one]) == 1)
        assert not running.places.sds_socket(USERS.id).exists()
        running.change(replace(running.plan, proxies=(ORDERS, USERS)))
        await until(lambda: running.serves(USERS))
        await running.serves(ORDERS)
        running.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(running.process.wait(), 60) == 0


async def test_its_children_end_when_it_is_killed(tmp_path: Path) -> None:
    async with supervised(tmp_path, ORDERS, local=True) as running:
        await until(lambda: running.serves(ORDERS))
        await until(lambda: sum("/grandchild" in command for command in running.children().values()) == 2)
        await until(lambda: len(running.children()) == 5)
        running.process.kill()
        await until(lambda: not running.children())


async def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    async with supervised(tmp_path, ORDERS) as running:
        stubborn = PlannedWorkload(
            *(ORDERS.id, "stubborn", "shop", ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")),
            *({}, str(running.places.state)),
        )
        running.change(replace(running.plan, workloads=(stubborn,)))
        output = running.places.state / "log" / "shop~stubborn.out"
        await until(lambda: output.exists() and output.read_text() == "ready\n")
        running.process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.3)
        assert running.process.returncode is None
        began = time.monotonic()
        running.process.send_signal(signal.SIGINT)
        await asyncio.wait_for(running.process.wait(), 60)
        assert time.monotonic() - began < 3
        assert running.children() == {}


async def test_a_control_plane_that_ends_before_its_first_plan_ends_all(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from isthmus.proxy.crew import CrewSettings\n"
        "from isthmus.proxy.place import Folders\n"
        "from isthmus.proxy.supervise import Supervisor, SupervisorSettings\n"
        "async def never(*_): await asyncio.sleep(60)\n"
        "async def main():\n"
        "    crew = CrewSettings(Folders(Path('.'), Path('.')))\n"
        "    settings = SupervisorSettings(crew, (sys.executable, '-c', 'import sys; sys.exit(1)'), ('true',))\n"
        "    return await Supervisor(settings, never, never, print).run()\n"
        "sys.exit(asyncio.run(main()))\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=tmp_path)
    assert await asyncio.wait_for(process.wait(), 60) == 1


_ALONE = """\
import asyncio, sys
from pathlib import Path
from isthmus.errors import Unreachable
from isthmus.proxy.crew import CrewSettings
from isthmus.proxy.place import Folders
from isthmus.proxy.supervise import CONTROL_PLANE, Supervisor, SupervisorSettings

async def never(*_):
    await asyncio.sleep(60)

async def while_it_lives(_):
    try:
        while supervisor.pids.get(CONTROL_PLANE) or not asked:
            asked.append(1)
            if len(asked) == 20:
                supervisor.stop()
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise
    raise Unreachable("gone")

asked = []
settings = SupervisorSettings(CrewSettings(Folders(Path("."), Path("."))), (sys.executable, "-c", CODE), ("true",))
supervisor = Supervisor(settings, ASKING, never, lambda who, what: print(who, what, flush=True))

async def main():
    return await supervisor.run()

sys.exit(asyncio.run(main()))
"""


async def alone(tmp_path: Path, code: str, asking: str) -> tuple[int, str]:
    """A supervisor with a control plane that does ``code``: its exit code and what it said."""
    script = _ALONE.replace("CODE", repr(code)).replace("ASKING", asking)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, said.decode()


async def test_a_control_plane_that_is_killed_before_its_first_plan_is_tried_a_few_times(tmp_path: Path) -> None:
    code, said = await alone(tmp_path, "import os; os.kill(os.getpid(), 9)", "never")
    assert code == 70
    assert said.count("was ended by SIGKILL") == 2, "the third time ends all"


async def test_the_request_for_the_next_plan_ends_with_the_control_plane_and_is_not_cut_off(tmp_path: Path) -> None:
    code, said = await alone(tmp_path, "import sys; sys.stdin.read()", "while_it_lives")
    assert code == 0
    assert "cancelled" not in said
