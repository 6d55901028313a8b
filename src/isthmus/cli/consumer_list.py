"""``isthmus consumer list`` and ``show``: who is known, and how many keys each has."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from isthmus.cli.consumer_known import Name, declared, key_json, named, now, opened
from isthmus.cli.option import DEFAULT_STATE, Format, Output, State
from isthmus.cli.report import print_json
from isthmus.errors import Refused
from isthmus.model.consumer import Consumer


def list_(state: State = DEFAULT_STATE, output: Output = Format.TEXT) -> int:
    """Every Consumer of the manifests that ran last with this state, and whoever else has keys.

    Examples:

        isthmus consumer list

        isthmus consumer list -o json | jq '.[] | select(.keys == 0)'
    """
    with opened(state) as (folder, store):
        known, counts = declared(folder), store.counts(now())
    rows = [_row(known.get(key), key, counts.get(key, 0)) for key in sorted(known.keys() | counts.keys())]
    if output is Format.JSON:
        print_json(rows)
    else:
        _print(rows)
    return 0


def show(consumer: Name, state: State = DEFAULT_STATE, output: Output = Format.TEXT) -> int:
    """One Consumer, and every key that it has or had.

    Example:

        isthmus consumer show shop/mobile-app
    """
    with opened(state) as (folder, store):
        known = declared(folder)
        key = named(consumer, known)
        keys, at = store.records(key), now()
    if key not in known and not keys:
        raise Refused(f"there is no Consumer {key} in the manifests, and it has no keys")
    found = _row(known.get(key), key, sum(one.state(at).value == "live" for one in keys))
    found["keys"] = [key_json(one, at) for one in keys]
    if output is Format.JSON:
        print_json(found)
        return 0
    for name in ("consumer", "declared", "groups", "plan", "certificates"):
        value = found[name]
        shown = ", ".join(value) if isinstance(value, list) else value
        typer.echo(f"{name:14}{shown or '-'}")
    for one in found["keys"]:
        ends = f", {'ends' if one['state'] == 'live' else 'ended'} {one['expires']}" if one["expires"] else ""
        typer.echo(f"key           {one['id']}  {one['state']}, made {one['created']}{ends}")
    return 0


def _row(consumer: Consumer | None, key: str, keys: int) -> dict[str, Any]:
    """``declared``: the file and line; None: in no manifest, so its keys are refused."""
    return {
        "consumer": key,
        "declared": None if consumer is None else str(consumer.origin.source),
        "groups": [] if consumer is None else list(consumer.groups),
        "plan": None if consumer is None else consumer.plan,
        "certificates": [] if consumer is None else list(consumer.certificates),
        "keys": keys,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("CONSUMER", "KEYS", "GROUPS", "PLAN", "CERTIFICATES", "DECLARED"):
        table.add_column(column, no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(
            row["consumer"],
            str(row["keys"]),
            ", ".join(row["groups"]),
            row["plan"] or "",
            ", ".join(row["certificates"]),
            row["declared"] or "nowhere: its keys are refused",
        )
    Console(soft_wrap=True, width=None if Console().is_terminal else 250).print(table)
