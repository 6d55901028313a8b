"""``isthmus consumer key``: API keys, which nobody but their holder can read again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from isthmus.cli.consumer_known import (
    Name,
    declared,
    key_json,
    named,
    now,
    opened,
    read_lifetime,
    warn_of_strangers,
)
from isthmus.cli.option import DEFAULT_STATE, Format, Output, State
from isthmus.cli.report import print_json
from isthmus.consumer.key import ApiKey, KeyMalformed, is_id
from isthmus.consumer.record import KeyRecord, KeyState
from isthmus.errors import Refused

app = typer.Typer(
    name="key",
    help="API keys: make, list, rotate, revoke.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _group() -> None:
    pass


Expires = Annotated[
    str | None,
    typer.Option("--expires", metavar="D", help="How long it is good for (90d, 12h); without: until revoked."),
]


@app.command()
def create(consumer: Name, expires: Expires = None, state: State = DEFAULT_STATE, output: Output = Format.TEXT) -> int:
    """Make a key and print it, once: nothing but a digest is kept.

    Examples:

        isthmus consumer key create shop/mobile-app --expires 90d

        isthmus consumer key create shop/partner -o json | jq -r .key
    """
    lifetime = None if expires is None else read_lifetime(expires, "--expires")
    with opened(state, make=True) as (folder, store):
        known = declared(folder)
        owner = named(consumer, known)
        made, at = ApiKey.make(), now()
        record = KeyRecord(made.id, owner, made.digest, at, None if lifetime is None else at + lifetime)
        store.add(record)
    warn_of_strangers(owner, known)
    _print_new(made, record, at, output)
    return 0


@app.command("list")
def list_(
    consumer: Annotated[str | None, typer.Argument(metavar="[NAMESPACE/NAME]", help="Of one Consumer.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Those that are expired or revoked, too.")] = False,
    state: State = DEFAULT_STATE,
    output: Output = Format.TEXT,
) -> int:
    """The live keys by their ids, the oldest first.

    Examples:

        isthmus consumer key list

        isthmus consumer key list shop/mobile-app --all
    """
    with opened(state) as (folder, store):
        known = declared(folder)
        owner = None if consumer is None else named(consumer, known)
        keys, at = store.records(owner), now()
    if owner is not None and not keys and owner not in known:
        raise Refused(f"there is no Consumer {owner} in the manifests, and it has no keys")
    found = [key for key in keys if every or key.state(at) is KeyState.LIVE]
    if output is Format.JSON:
        print_json([key_json(key, at) for key in found])
    else:
        _print(found, at)
    return 0


@app.command()
def rotate(
    key: Annotated[str, typer.Argument(metavar="ID", help="Of a live key, as `isthmus consumer key list` shows it.")],
    grace: Annotated[str, typer.Option("--grace", metavar="D", help="How long the old key stays good.")] = "24h",
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="D", help="How long the new one is good for; without: as the old one was."),
    ] = None,
    state: State = DEFAULT_STATE,
    output: Output = Format.TEXT,
) -> int:
    """Make a key beside another of the same Consumer, and let the old one end after a while.

    Examples:

        isthmus consumer key rotate 4Tz0cQb81mXe

        isthmus consumer key rotate 4Tz0cQb81mXe --grace 7d --expires 90d
    """
    overlap = read_lifetime(grace, "--grace")
    lifetime = None if expires is None else read_lifetime(expires, "--expires")
    with opened(state) as (folder, store):
        known = declared(folder)
        old = store.find(_id(key))
        if old is None:
            raise Refused(f"there is no key {_id(key)}")
        made, at = ApiKey.make(), now()
        if lifetime is None and old.expires is not None:
            lifetime = old.expires - old.created
        record = KeyRecord(made.id, old.consumer, made.digest, at, None if lifetime is None else at + lifetime)
        store.rotate(old.id, record, at + overlap, at)
        ends = store.find(old.id)
    warn_of_strangers(old.consumer, known)
    if ends is not None and ends.expires is not None:
        typer.echo(f"key {old.id} stays good until {_when(ends.expires)}", err=True)
    _print_new(made, record, at, output)
    return 0


@app.command()
def revoke(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Ids; a whole key that was found somewhere does, too.")
    ] = None,
    consumer: Annotated[
        str | None, typer.Option("--consumer", metavar="NAMESPACE/NAME", help="Every key of this Consumer.")
    ] = None,
    state: State = DEFAULT_STATE,
    output: Output = Format.TEXT,
) -> int:
    """Refuse keys from now on: every proxy does within a second. It cannot be taken back.

    Examples:

        isthmus consumer key revoke 4Tz0cQb81mXe

        isthmus consumer key revoke --consumer shop/partner
    """
    if bool(keys) == (consumer is not None):
        raise typer.BadParameter("either ids or --consumer")
    with opened(state) as (folder, store):
        if consumer is not None:
            owner, at = named(consumer, declared(folder)), now()
            wanted = [one.id for one in store.records(owner) if one.state(at) is not KeyState.REVOKED]
            if not wanted:
                raise Refused(f"{owner} has no key")
        else:
            wanted = list(map(_id, keys or ()))
        done = store.revoke(wanted, now())
    missing = [one for one in wanted if one not in done]
    if output is Format.JSON:
        print_json({"revoked": done, "missing": missing})
    else:
        for one in done:
            typer.echo(f"key {one} is revoked", err=True)
    if missing:
        raise Refused(f"there is no key {', '.join(missing)}")
    return 0


def _id(written: str) -> str:
    """Of an id, or of a whole key. Raises BadParameter, which does not repeat what may be one."""
    if is_id(written):
        return written
    try:
        return ApiKey.parse(written.strip()).id
    except KeyMalformed:
        raise typer.BadParameter("that is no id of a key: `isthmus consumer key list` shows them") from None


def _print_new(made: ApiKey, record: KeyRecord, at: datetime, output: Format) -> None:
    """The key alone on standard output; what a person should know beside it."""
    if output is Format.JSON:
        print_json({"key": made.text} | key_json(record, at))
        return
    until = "until it is revoked" if record.expires is None else f"until {_when(record.expires)}"
    typer.echo(f"key {record.id} of {record.consumer}, good {until}; it is shown this once:", err=True)
    typer.echo(made.text)


def _print(keys: list[KeyRecord], at: datetime) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("ID", "CONSUMER", "STATE", "CREATED", "EXPIRES"):
        table.add_column(column, no_wrap=True, overflow="fold")
    for key in keys:
        ends = "" if key.expires is None else _when(key.expires)
        table.add_row(key.id, key.consumer, key.state(at).value, _when(key.created), ends)
    Console(soft_wrap=True, width=None if Console().is_terminal else 250).print(table)


def _when(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
