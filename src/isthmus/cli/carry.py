"""Running what a control plane elsewhere wants of this machine, for ``isthmus proxy``."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer

from isthmus.cli import ready_file
from isthmus.errors import EnvoyFailed, IsthmusError, Refused
from isthmus.keeping import Keeping
from isthmus.model.offer import Offer
from isthmus.model.world import Address
from isthmus.proxy.crew import CrewSettings
from isthmus.proxy.envoy import AdminClient
from isthmus.proxy.membership import Membership, member
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import Plan
from isthmus.proxy.ports import PortBook
from isthmus.proxy.remote import Carried, RemoteControlPlane
from isthmus.proxy.state_guard import guard
from isthmus.proxy.supervise import Supervisor, SupervisorSettings
from isthmus.state import Held, StateDir

_ISTHMUS = (sys.executable, "-m", "isthmus")
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Carry:
    """What to run. ``offer`` is made of the folder of sockets and of this state's ports."""

    control_plane: Address
    token: str | None
    state: Path
    offer: Callable[[Path, PortBook], Offer]
    command: tuple[str, ...]
    ready_file: Path | None = None
    env_file: Path | None = None
    exec_probe: bool = False


async def carry(wanted: Carry) -> int:
    """Until a signal. Raises Refused or NotEnrolled, with what to do, where going on would be in vain."""
    with StateDir.at(wanted.state).hold("proxy") as held:
        if wanted.ready_file is not None:
            ready_file.clear(wanted.ready_file)
        try:
            membership = await member(held.state, wanted.control_plane, wanted.token)
            _say(f"node {membership.node}", f"of the control plane {wanted.control_plane}")
            return await _run(wanted, held, membership)
        except IsthmusError as failed:
            raise failed if isinstance(failed, Refused) else Refused(str(failed)) from failed
        finally:
            if wanted.ready_file is not None:
                ready_file.remove(wanted.ready_file)


async def _run(wanted: Carry, held: Held, membership: Membership) -> int:
    folders = Folders(held.state.path, held.runtime)
    ports = PortBook(Keeping(held.state, partial(_say, "state")), check=True)
    carried = Carried(wanted.offer(held.runtime, ports), wanted.command, wanted.exec_probe)
    remote = RemoteControlPlane(folders, membership, wanted.control_plane, carried, _say)
    settings = SupervisorSettings(
        crew=CrewSettings(folders, output=_print_line),
        control_plane=None,
        agent=(*_ISTHMUS, "agent", "--state", str(folders.state), "--runtime", str(held.runtime)),
    )
    supervisor = Supervisor(settings, remote.next_plan, _no_token, _say, leave=remote.leave)
    running = asyncio.create_task(supervisor.run())
    following = asyncio.create_task(remote.run())
    beside = [
        asyncio.create_task(guard(held, partial(_say, "state"))),
        asyncio.create_task(_announce(wanted, remote, folders, membership)),
    ]
    try:
        await asyncio.wait({running, following}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return await running
        supervisor.stop()
        await running
        await following
        return 0
    finally:
        for task in (*beside, following):
            task.cancel()
        await asyncio.gather(*beside, following, return_exceptions=True)


async def _no_token(node: str) -> str:
    raise Refused(f"node {node} has no certificate that lasts: start this again with a new join token")


async def _announce(wanted: Carry, remote: RemoteControlPlane, folders: Folders, membership: Membership) -> None:
    """Say when the proxy takes traffic, and tell programs how to call, whenever that changes."""
    said = False
    async for plan in remote.plan:
        if plan is None or not plan.proxies:
            continue
        await _until_open(plan, folders)
        if wanted.env_file is not None:
            _write_environment(wanted.env_file, plan)
        if not said:
            said = True
            _say(f"node {membership.node}", f"carries {', '.join(proxy.id for proxy in plan.proxies)}")
            if wanted.ready_file is not None:
                ready_file.write(wanted.ready_file, _ready(wanted, plan, folders))


async def _until_open(plan: Plan, folders: Folders) -> None:
    while True:
        if await _all_open(plan, folders):
            return
        await asyncio.sleep(_LOOK_SECONDS)


async def _all_open(plan: Plan, folders: Folders) -> bool:
    """Whether every Envoy has its configuration, and has opened every listener."""
    for proxy in plan.proxies:
        admin = AdminClient(folders.admin_socket(proxy.id))
        try:
            stats = await admin.stats("listener_manager.total_listeners_(warming|active)")
            if not await admin.ready() or stats.get("listener_manager.total_listeners_warming", 1) != 0:
                return False
        except (EnvoyFailed, OSError):
            return False
    return True


def _ready(wanted: Carry, plan: Plan, folders: Folders) -> dict[str, Any]:
    """What runs here, for people's scripts. Without the environment, which holds a credential."""
    return {
        "pid": os.getpid(),
        "state": str(folders.state),
        "node": plan.node,
        "control_plane": str(wanted.control_plane),
        "proxies": [
            {
                "id": proxy.id,
                "name": proxy.name,
                "namespace": proxy.namespace,
                "spiffe_id": proxy.identity,
                "admin_socket": str(folders.admin_socket(proxy.id)),
            }
            for proxy in plan.proxies
        ],
    }


def _write_environment(file: Path, plan: Plan) -> None:
    """As systemd's ``EnvironmentFile`` and shells read it. It holds the credential of the outbound proxy: 0600."""
    lines = [f"{name}={shlex.quote(value)}\n" for one in plan.workloads for name, value in one.env.items()]
    StateDir.at(file.absolute().parent).write_private(file.name, "".join(lines).encode())


def _say(who: str, what: str) -> None:
    _print_line(f"{who}: {what}")


def _print_line(line: str) -> None:
    # A terminal that is gone, or a full disk behind it, is no reason to end what runs.
    with suppress(OSError):
        typer.echo(line, err=True)
