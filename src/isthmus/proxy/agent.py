"""The node agent: enrols its machine, holds the proxies' keys, serves their certificates by SDS. One per machine.

It hears from the supervisor on standard input, one JSON object a line: ``{"enrol": token}`` once if the supervisor has
a join token, ``{"plan": {...}}`` whenever the plan changes, ``{"orphans": [pid, ...]}``: the process groups to end if
the supervisor vanishes, ``{"programs": {sidecar: pid, ...}}``: what runs beside which sidecar. The end of standard
input means just that.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from isthmus.errors import (
    CsrRejected,
    IsthmusError,
    NotEnrolled,
    StateHeld,
    StateUnusable,
    SvidInvalid,
    Unreachable,
)
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.keeping import Keeping
from isthmus.latest import Latest
from isthmus.model.world import Address
from isthmus.proxy.child import group_lives, signal_group
from isthmus.proxy.credential import (
    Certificate,
    certificate,
    is_superseded,
    lasting,
    request_for_identity,
)
from isthmus.proxy.holder import Holder, now, persist, until_renewal
from isthmus.proxy.issuer import Issuer, enrolment_issuer, node_issuer
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import Plan, from_json, own_roots, trust_version
from isthmus.proxy.workload_api.endpoint import WorkloadEndpoint
from isthmus.proxy.workload_api.source import SvidSource
from isthmus.state import StateDir

EXIT_NOT_ENROLLED = 3
"""The agent has no certificate of its node and no join token that works: start it again with a new one."""
_NODE_TTL = timedelta(hours=24)
"""Long against ``--svid-ttl``: a control plane that is away must not cost a node its enrolment."""
_LEAST_LEFT = timedelta(seconds=5)
_STATE_CHECK = timedelta(seconds=1)
_TRUST_CHECK = timedelta(seconds=1)
_ORPHANS_LOOKS = 60
"""One every 50 ms."""
_LONGEST_LINE = 64 << 20
_log = logging.getLogger(__name__)
T = TypeVar("T")


def main(state: Path, runtime: Path, workload_api: Path | None = None, spire: Path | None = None) -> int:
    """Run until standard input ends or SIGTERM. The exit code: 0, 1 with a reason, or EXIT_NOT_ENROLLED.

    ``workload_api``: a socket for every user of the machine, beside the one in ``runtime``. ``spire``: the socket of
    another Workload API, which gives the proxies their SVIDs.
    """
    os.umask(0o077)
    try:
        asyncio.run(_main(Folders(state, runtime), workload_api, spire))
    except NotEnrolled as refused:
        _say(f"this node is not enrolled: {refused}")
        return EXIT_NOT_ENROLLED
    except (IsthmusError, OSError) as failed:
        _say(str(failed))
        return 1
    return 0


def _say(text: str) -> None:
    print(f"agent: {text}", file=sys.stderr, flush=True)


async def _main(folders: Folders, workload_api: Path | None, spire: Path | None) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=_LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer)
    running = asyncio.create_task(Agent(folders, workload_api, spire).run(lines))
    loop.add_signal_handler(signal.SIGTERM, running.cancel)
    with suppress(asyncio.CancelledError):
        await running


class Agent:
    """One node's keys. :meth:`run` is its whole life."""

    def __init__(self, folders: Folders, workload_api: Path | None = None, spire: Path | None = None) -> None:
        """``workload_api``, ``spire``: as of :func:`main`."""
        self._source = SvidSource(spire) if spire is not None else None
        self._folders = folders
        self._workload_api = workload_api
        self._endpoint: WorkloadEndpoint | None = None
        self._keeping = Keeping(StateDir.at(folders.state), _log.warning)
        self._token: str | None = None
        self._plan = Latest[Plan | None](None)
        self._node = Latest[Certificate | None](None)
        self._channel: tuple[Address, str, Certificate, bytes] | None = None
        self._issuer: Issuer | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._holders: dict[str, Holder] = {}
        self._orphans: tuple[int, ...] = ()

    async def run(self, lines: asyncio.StreamReader) -> None:
        """Until ``lines`` ends. Raises NotEnrolled if the node needs a (new) join token."""
        supervisor_gone = False
        try:
            async with asyncio.TaskGroup() as tasks:
                parts = (self._hold_node(), self._follow_plans(tasks), self._keep_state(), self._confirm_trust())
                self._endpoint = WorkloadEndpoint(self._current_issuer, tasks, os.getppid())
                serving = self._endpoint.serve(self._folders.workload_socket, self._workload_api)
                taking = (self._source.run(),) if self._source is not None else ()
                working = [tasks.create_task(part) for part in (*parts, serving, *taking)]
                await self._listen(lines)
                supervisor_gone = True
                for task in working:
                    task.cancel()
                self._endpoint.stop()
                await self._forget(self._holders.keys())
        except ExceptionGroup as failed:
            refused = failed.subgroup(NotEnrolled)
            raise (refused or failed).exceptions[0] from None
        finally:
            # SIGTERM means: end the agent. No traffic is to notice, so what runs beside it stays.
            if supervisor_gone:
                await end_orphans(self._orphans)
            await self._forget(self._holders.keys())
            await asyncio.gather(*self._closing, return_exceptions=True)
            if supervisor_gone:
                # One that was killed had no time to; one that ends in order still holds the state, and sweeps itself.
                with suppress(StateHeld, StateUnusable):
                    StateDir.at(self._folders.state).sweep()

    async def _listen(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            message: dict[str, Any] = json.loads(line)
            if "enrol" in message:
                self._token = message["enrol"]
            if "orphans" in message:
                self._orphans = tuple(message["orphans"])
            if "programs" in message and self._endpoint is not None:
                self._endpoint.started(message["programs"])
            if "plan" in message:
                self._plan.set(from_json(message["plan"]))

    async def _follow_plans(self, tasks: asyncio.TaskGroup) -> None:
        async for plan in self._plan:
            if plan is None:
                continue
            if self._endpoint is not None:
                self._endpoint.follow(plan)
            proxies = {proxy.id: proxy for proxy in plan.proxies}
            await self._forget(self._holders.keys() - proxies.keys())
            for proxy_id, proxy in proxies.items():
                if proxy_id not in self._holders:
                    socket = self._folders.sds_socket(proxy_id)
                    holder = Holder(proxy_id, socket, self._current_issuer, self._source)
                    self._holders[proxy_id] = holder
                    await holder.start()
                ttl = timedelta(seconds=plan.svid_ttl_seconds)
                await self._holders[proxy_id].follow(proxy, ttl, plan.trust, tasks)

    async def _confirm_trust(self) -> None:
        """Tell the control plane when every proxy here trusts what the plan says: it waits with the next root."""
        while True:
            await asyncio.sleep(_TRUST_CHECK.total_seconds())
            plan = await _present(self._plan)
            if self._holders and all(holder.trusts(plan.trust) for holder in self._holders.values()):
                # A job that is refused says so; this only waits for better times.
                with suppress(Unreachable, CsrRejected, NotEnrolled):
                    await (await self._current_issuer()).confirm_trust(trust_version(plan.trust))

    async def _keep_state(self) -> None:
        while True:
            await asyncio.sleep(_STATE_CHECK.total_seconds())
            self._keeping.retry()

    async def _forget(self, proxy_ids: Iterable[str]) -> None:
        for proxy_id in list(proxy_ids):
            await self._holders.pop(proxy_id).stop()

    async def _current_issuer(self) -> Issuer:
        """The channel to where the control plane is now, with the node's certificate of now."""
        node, plan = await _present(self._node), await _present(self._plan)
        channel = (plan.ads, plan.control_plane_id, node, own_roots(plan.trust))
        if self._issuer is None or channel != self._channel:
            if self._issuer is not None:
                closing = asyncio.create_task(self._issuer.close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
            self._channel, self._issuer = channel, node_issuer(*channel)
        return self._issuer

    async def _hold_node(self) -> None:
        """Have a certificate of this node at all times."""
        plan = await _present(self._plan)
        held = await self._first_certificate(plan)
        while True:
            self._node.set(held)
            await until_renewal(held, self._superseded)
            held = await persist(f"node {plan.node}: no new certificate", self._renewed)

    def _superseded(self, held: Certificate) -> bool:
        plan = self._plan.value
        return plan is not None and is_superseded(held, plan.trust)

    async def _first_certificate(self, plan: Plan) -> Certificate:
        """By the join token if there is one, else the certificate that the last agent of this node left."""
        token = self._token
        if token is not None:
            self._token = None
            return await persist(f"node {plan.node}: cannot enrol", lambda: self._enrolled(plan, token))
        held = self._left(plan.node)
        if held is None:
            raise NotEnrolled(f"node {plan.node} needs a join token")
        return held

    async def _enrolled(self, plan: Plan, token: str) -> Certificate:
        request = request_for_identity(_node_uri(plan))
        issuer = enrolment_issuer(plan.enrol_socket)
        try:
            chain = await issuer.enrol(request.csr_pem, _NODE_TTL, token)
        finally:
            await issuer.close()
        return self._keep(plan.node, request.key_pem, chain)

    async def _renewed(self) -> Certificate:
        plan, node = await _present(self._plan), await _present(self._node)
        if not lasting(node, now(), timedelta()):
            raise NotEnrolled(f"the certificate of node {plan.node} has expired")
        request = request_for_identity(_node_uri(plan))
        issuer = await self._current_issuer()
        return self._keep(plan.node, request.key_pem, await issuer.renew(request.csr_pem, _NODE_TTL))

    def _keep(self, node: str, key_pem: bytes, chain: list[str]) -> Certificate:
        """The one key that is written down, in the agent's own folder: so that its next life needs no token."""
        held = certificate(key_pem, chain)
        content = json.dumps({"key": key_pem.decode(), "chain": chain})
        self._keeping.write_private(node_file(node), content.encode())
        return held

    def _left(self, node: str) -> Certificate | None:
        content = self._keeping.read(node_file(node))
        if content is None:
            return None
        try:
            left = json.loads(content)
            held = certificate(left["key"].encode(), left["chain"])
        except (ValueError, KeyError, SvidInvalid) as broken:
            _log.warning("node %s: its kept certificate cannot be read: %s", node, type(broken).__name__)
            return None
        return held if lasting(held, now(), _LEAST_LEFT) else None


def node_file(node: str) -> str:
    """Within the state directory: the node's key and certificate. No other key of this module is in any file."""
    return f"agent/{node}/node.json"


def _node_uri(plan: Plan) -> str:
    return SpiffeId.node(plan.trust_domain, plan.node).uri


async def _present(latest: Latest[T | None]) -> T:
    async for value in latest:
        if value is not None:
            return value
    raise AssertionError("a Latest never ends")


async def end_orphans(groups: tuple[int, ...]) -> None:
    """End process groups that nobody else will: SIGTERM, and SIGKILL for those that stay."""
    for group in groups:
        signal_group(group, signal.SIGTERM)
    for _ in range(_ORPHANS_LOOKS):
        if not any(group_lives(group) for group in groups):
            return
        await asyncio.sleep(0.05)
    for group in groups:
        signal_group(group, signal.SIGKILL)
