"""A client of the control plane's API over its Unix socket."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from isthmus.errors import Refused, Unreachable

_TIMEOUT = httpx.Timeout(10.0)
_LONG_POLL = httpx.Timeout(10.0, read=40.0)
_AGAIN_SECONDS = 0.2
_TRIES = 50
"""All together longer than a control plane takes that was killed and is started again."""


class ApiClient:
    """Talks to the control plane that holds a state directory. Raises Unreachable when nobody answers."""

    def __init__(self, socket: Path, again_seconds: float = _AGAIN_SECONDS) -> None:
        """``again_seconds``: between two tries to hold a workload again."""
        self._socket = socket
        self._again_seconds = again_seconds

    def _http(self) -> httpx.AsyncClient:
        # The path behind the link: a Unix socket's own path has to be short. Without TLS, no list of roots is read.
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket.resolve()), verify=False)
        return httpx.AsyncClient(transport=transport, base_url="http://control-plane", timeout=_TIMEOUT)

    async def _get(self, path: str, **options: Any) -> httpx.Response:
        async with self._http() as http:
            try:
                response = await http.get(path, **options)
            except httpx.TransportError as error:
                raise self._unreachable() from error
        if response.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
            # So ends, too, a question that is asked while it stops.
            raise Unreachable(f"the control plane at {self._socket} did not answer: it stops, or its log says why")
        return response

    def _unreachable(self) -> Unreachable:
        why = "is `isthmus up` or `serve` running on this machine, with this --state?"
        return Unreachable(f"no control plane answers at {self._socket} ({why})")

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        response = await self._get("/v1/ready")
        return response.status_code == 200, response.json()

    async def plan(self, after: int = -1) -> dict[str, Any] | None:
        """The plan, or None if it stayed the same for the length of a long poll."""
        response = await self._get("/v1/plan", params={"after": after}, timeout=_LONG_POLL)
        return None if response.status_code == 204 else response.json()

    async def join_token(self, node: str) -> str:
        async with self._http() as http:
            try:
                response = await http.post("/v1/join-tokens", json={"node": node})
            except httpx.TransportError as error:
                raise self._unreachable() from error
            return str(response.json()["token"])

    async def invite(self, node: str, scope: str, ttl_seconds: int) -> dict[str, Any]:
        """A join token for another machine. Raises Refused, with the reason."""
        body = {"node": node, "scope": scope, "ttl_seconds": ttl_seconds}
        return await self._asked("POST", "/v1/nodes/tokens", json=body)

    async def nodes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._get("/v1/nodes")).json()
        return found

    async def evict(self, node: str) -> dict[str, Any]:
        """Put another machine out. Raises Refused, with the reason."""
        return await self._asked("DELETE", f"/v1/nodes/{quote(node, safe='')}")

    async def _asked(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        async with self._http() as http:
            try:
                response = await http.request(method, path, **options)
            except httpx.TransportError as error:
                raise self._unreachable() from error
        found: dict[str, Any] = response.json()
        if response.status_code != httpx.codes.OK:
            raise Refused(found["error"])
        return found

    async def tell_listening(self, proxies: frozenset[str]) -> None:
        """Say whose local programs (by the ids of their sidecars) take connections."""
        async with self._http() as http:
            try:
                await http.put("/v1/programs", json={"listening": sorted(proxies)})
            except httpx.TransportError as error:
                raise self._unreachable() from error

    async def proxies(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._get("/v1/proxies")).json()
        return found

    async def config(self, proxy: str) -> dict[str, Any] | None:
        response = await self._get(f"/v1/proxies/{proxy}/config")
        return None if response.status_code == 404 else response.json()

    async def drift(self) -> list[dict[str, str]]:
        """What runs and was not declared so, after a look of now: up to ten seconds."""
        found: list[dict[str, str]] = (await self._get("/v1/drift", timeout=_LONG_POLL)).json()
        return found

    async def diagnostics(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._get("/v1/diagnostics")).json()
        return found

    @asynccontextmanager
    async def workload(
        self,
        namespace: str,
        service_account: str,
        labels: dict[str, str],
        network: str = "Host",
        lost: Callable[[str], None] = lambda why: None,
    ) -> AsyncIterator[dict[str, Any]]:
        """A workload of the mesh for as long as the context is open: its name and the environment to run with.

        A control plane that is killed and started again gives the same workload back. ``lost`` hears why that has not
        come about after fifty tries, ten seconds; it is tried on.
        """
        body = {
            "namespace": namespace,
            "service_account": service_account,
            "labels": labels,
            "network": network,
            # Whose children have the identity: the Workload API asks the kernel for them.
            "pid": os.getpid(),
        }
        async with self._holding(body) as (first, lines):
            staying = asyncio.create_task(self._hold_on({**body, "name": first["name"]}, lines, lost))
            try:
                yield first
            finally:
                staying.cancel()
                with suppress(asyncio.CancelledError):
                    await staying

    @asynccontextmanager
    async def _holding(self, body: dict[str, Any]) -> AsyncIterator[tuple[dict[str, Any], AsyncIterator[str]]]:
        async with self._http() as http:
            try:
                async with http.stream("POST", "/v1/workloads", json=body, timeout=_LONG_POLL) as response:
                    lines = response.aiter_lines()
                    line = await anext(lines, None)
                    if line is None:
                        raise self._unreachable()
                    first = json.loads(line)
                    if response.status_code != 200:
                        raise Unreachable(first["error"])
                    yield first, lines
            except httpx.TransportError as error:
                raise self._unreachable() from error

    async def _hold_on(self, body: dict[str, Any], lines: AsyncIterator[str], lost: Callable[[str], None]) -> None:
        """Until cancelled."""
        await _read_out(lines)
        tries = 0
        while True:
            try:
                async with self._holding(body) as (_, again):
                    tries = 0
                    await _read_out(again)
            except (Unreachable, ValueError) as why:
                tries += 1
                if tries == _TRIES:
                    lost(str(why))
            await asyncio.sleep(self._again_seconds)


async def _read_out(lines: AsyncIterator[str]) -> None:
    """Until whoever sends them ends, however it does."""
    with suppress(httpx.TransportError):
        async for _ in lines:
            pass
