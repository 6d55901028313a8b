"""``isthmus proxies``: what runs, in sync or not."""

from __future__ import annotations

import asyncio
from typing import Any

from rich.console import Console
from rich.table import Table

from isthmus.api.client import ApiClient
from isthmus.cli.exit import EXIT_USER
from isthmus.cli.option import DEFAULT_STATE, Format, Output, State
from isthmus.cli.report import print_json
from isthmus.state import StateDir

_TYPES = ("clusters", "endpoints", "listeners", "routes", "extensions")


def proxies(state: State = DEFAULT_STATE, output: Output = Format.TEXT) -> int:
    """What runs, and whether each Envoy has what it should have: SYNCED, STALE, ERROR or NOT_SENT.

    Exit code 1 if a proxy refuses something.

    Examples:

        isthmus proxies

        isthmus proxies -o json | jq '.[] | select(.state != "SYNCED")'
    """
    found = asyncio.run(ApiClient(StateDir.at(state).api_socket).proxies())
    if output is Format.JSON:
        print_json(found)
    else:
        _print_table(found)
    return EXIT_USER if any(proxy["state"] == "ERROR" for proxy in found) else 0


def _print_table(found: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NAME", "NAMESPACE", "ROLE", "NODE", "STATE", *(name.upper() for name in _TYPES), "IDENTITY"):
        table.add_column(column, no_wrap=True, overflow="fold")
    for proxy in found:
        states = [proxy["types"].get(name, {}).get("state", "NOT_SENT") for name in _TYPES]
        about = (proxy["name"], proxy["namespace"], proxy["role"], proxy["node"] or "-", proxy["state"])
        table.add_row(*about, *states, proxy["identity"])
    console = Console(soft_wrap=True, width=None if Console().is_terminal else 250)
    console.print(table)
    for proxy in found:
        for refusal in proxy["refusals"]:
            console.print(f"{proxy['name']}.{proxy['namespace']}: {refusal['text']}", highlight=False, style="red")
