"""``isthmus drift``: whether what runs is what was declared."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Protocol

import typer

from isthmus.api.client import ApiClient
from isthmus.cli.exit import EXIT_USER
from isthmus.cli.option import DEFAULT_STATE, Format, Output, State
from isthmus.cli.report import print_json
from isthmus.errors import Unreachable
from isthmus.model.offer import LOCAL_NODE
from isthmus.state import StateDir

_EVERY_SECONDS = 5.0

Difference = dict[str, str]


class Watched(Protocol):
    async def drift(self) -> list[Difference]:
        """As :meth:`ApiClient.drift`."""


def drift(
    live: Annotated[bool, typer.Option("--live", help="Compare every running Envoy with what it was given.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and say what comes and what is mended.")] = False,
    state: State = DEFAULT_STATE,
    output: Output = Format.TEXT,
) -> int:
    """Whether what runs is what was declared: listeners, clusters, routes, filters, trust stores, bootstrap, state.

    The control plane compares all the time; this asks for a look of now, which takes up to ten seconds where something
    differs. Exit code 1 if something does.

    Examples:

        isthmus drift --live

        isthmus drift --live --watch -o json
    """
    if not live:
        raise typer.BadParameter("say what to compare: --live, the running Envoys", param_hint="--live")
    client = ApiClient(StateDir.at(state).api_socket)
    return asyncio.run(watch_drift(client, output) if watch else _once(client, output))


async def _once(client: ApiClient, output: Format) -> int:
    found = await client.drift()
    if output is Format.JSON:
        print_json(found)
    elif found:
        _print_lines("", found)
    else:
        typer.echo("what runs is what was declared")
    if away := not_compared(await client.proxies(), await client.nodes()):
        typer.echo(f"not compared, for their machines are not connected: {', '.join(away)}", err=True)
    return EXIT_USER if found else 0


async def watch_drift(client: Watched, output: Format, every: float = _EVERY_SECONDS) -> int:
    """Until it is interrupted. In JSON, one object a line: ``event`` is ``found`` or ``mended``."""
    before = await client.drift()
    _tell(before, [], output)
    while True:
        await asyncio.sleep(every)
        try:
            now = await client.drift()
        except Unreachable as gone:
            # It is watched over a restart, which has nothing else to tell than that.
            typer.echo(f"{gone}; watching goes on when one does", err=True)
            now = await _when_it_answers(client, every)
        _tell(now, before, output)
        before = now


async def _when_it_answers(client: Watched, every: float) -> list[Difference]:
    while True:
        await asyncio.sleep(every)
        with suppress(Unreachable):
            return await client.drift()


def _tell(now: list[Difference], before: list[Difference], output: Format) -> None:
    for event, some in (("found", _without(now, before)), ("mended", _without(before, now))):
        if output is Format.JSON:
            for one in some:
                typer.echo(json.dumps({"event": event, **one}))
        else:
            _print_lines(f"{event}: ", some)


def not_compared(proxies: Sequence[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of the API's proxies those whose machine cannot be asked now, with it."""
    connected = {node["name"] for node in nodes if node["state"] == "connected"}
    others = [proxy for proxy in proxies if proxy["node"] not in (None, LOCAL_NODE, *connected)]
    return sorted(f"{proxy['id']} on {proxy['node']}" for proxy in others)


def _without(some: Sequence[Difference], others: Sequence[Difference]) -> list[Difference]:
    return [one for one in some if one not in others]


def _print_lines(beginning: str, found: Sequence[Difference]) -> None:
    for one in found:
        where = one["proxy"] if one["machine"] == LOCAL_NODE else f"{one['proxy']} on {one['machine']}"
        typer.echo(f"{beginning}{where}: {one['kind']} {one['name']}: {one['difference']} ({one['code']})")
