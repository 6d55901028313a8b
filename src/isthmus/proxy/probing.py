"""Whether the program of this node is well: its probe, asked again and again."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import httpx

from isthmus.model.probe import Exec, HttpGet, Probe, TcpSocket

Tell = Callable[[bool, str], None]
"""Hears whether the program is well, and why not, whenever that changes."""


_NEVER = httpx.Timeout(None)
_ANYBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_ANYBODY.check_hostname = False
_ANYBODY.verify_mode = ssl.CERT_NONE


@dataclass(slots=True)
class Verdict:
    """Counts what a probe answers. Not well until it has been found to be."""

    probe: Probe
    well: bool = False
    _in_a_row: int = 0
    _last: bool | None = None

    def count(self, succeeded: bool) -> bool:
        """Say whether :attr:`well` is another than before."""
        self._in_a_row = self._in_a_row + 1 if succeeded is self._last else 1
        self._last = succeeded
        needed = self.probe.success if succeeded else self.probe.failure
        if succeeded is self.well or self._in_a_row < needed:
            return False
        self.well = succeeded
        return True


async def watch(probe: Probe, tell: Tell, *, well: bool = False) -> None:
    """Until cancelled. ``well``: what an earlier probe of the program found."""
    verdict = Verdict(probe, well)
    if not well:
        tell(False, "not probed yet")
    await asyncio.sleep(probe.initial_delay.total_seconds())
    while True:
        why = await attempt(probe)
        if verdict.count(why is None):
            tell(verdict.well, why or "")
        await asyncio.sleep(probe.period.total_seconds())


async def attempt(probe: Probe) -> str | None:
    """Ask once: why the program is not well; None if it is."""
    try:
        async with asyncio.timeout(probe.timeout.total_seconds()):
            match probe.action:
                case HttpGet():
                    return await _get(probe.action)
                case TcpSocket(port, host):
                    _, writer = await asyncio.open_connection(host, port)
                    writer.close()
                    return None
                case Exec(command):
                    return await _run(command)
    except TimeoutError:
        return f"no answer in {probe.timeout.total_seconds():g} s"
    except (OSError, httpx.HTTPError, httpx.InvalidURL) as failed:
        return f"{type(failed).__name__}: {failed}"


async def _get(action: HttpGet) -> str | None:
    """As a kubelet does it: whose certificate it is plays no part, and a redirect is an answer."""
    host = f"[{action.host}]" if ":" in action.host else action.host
    url = f"{action.scheme}://{host}:{action.port}{action.path}"
    # The probe's own timeout is around all of it.
    async with httpx.AsyncClient(verify=_ANYBODY, trust_env=False, timeout=_NEVER) as client:
        status = (await client.get(url, headers=list(action.headers))).status_code
    return None if httpx.codes.OK <= status < httpx.codes.BAD_REQUEST else f"HTTP {status}"


async def _run(command: tuple[str, ...]) -> str | None:
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    try:
        code = await process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    return None if code == 0 else f"exit code {code}"
