"""What the commands of ``isthmus consumer`` share: the state's consumers and the store of their keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.compile import Compiler
from isthmus.config.decode import parse_duration
from isthmus.config.documents import may_name
from isthmus.consumer.record import KeyRecord
from isthmus.consumer.store import CredentialStore
from isthmus.control.last_good import LastGood
from isthmus.errors import Refused
from isthmus.kinds import consumer as kind
from isthmus.model.consumer import Consumer
from isthmus.state import StateDir, is_state

_DAYS = re.compile(r"(\d{1,5})d")
_LONGEST = timedelta(days=36500)

Name = Annotated[
    str, typer.Argument(metavar="NAMESPACE/NAME", help="A Consumer; the name alone where only one is called so.")
]


def now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def opened(folder: Path, *, make: bool = False) -> Iterator[tuple[StateDir, CredentialStore]]:
    """The state and its store. ``make``: also where there is no state yet. Raises Refused."""
    if not make and not is_state(folder):
        raise Refused(f"{folder} is not a state directory: name it by --state")
    state = StateDir.at(folder).open()
    store = CredentialStore.of(state)
    try:
        yield state, store
    finally:
        store.close()


def declared(state: StateDir) -> Mapping[str, Consumer]:
    """The Consumers of the last good manifests that ran with this state, by ``namespace/name``."""
    documents = [one for one in LastGood(state).load() if one.ref.kind == kind.KIND.name]
    return Compiler().compile(tuple(documents)).mesh.consumers


def named(written: str, known: Mapping[str, Consumer]) -> str:
    """``namespace/name`` of what a person means. Raises BadParameter."""
    namespace, slash, name = written.rpartition("/")
    if slash:
        if not may_name(namespace, name):
            raise typer.BadParameter(f'"{written}" is not NAMESPACE/NAME')
        return written
    found = sorted(key for key, consumer in known.items() if consumer.name == written)
    if len(found) == 1:
        return found[0]
    if not found:
        raise typer.BadParameter(f'no Consumer is called "{written}" in the manifests: write NAMESPACE/NAME')
    raise typer.BadParameter(f'"{written}" could be {" or ".join(found)}')


def warn_of_strangers(key: str, known: Mapping[str, Consumer]) -> None:
    """A key may come before its Consumer: whichever is made first waits for the other."""
    if key not in known:
        typer.echo(
            f"note: no Consumer {key} is in the manifests that this state knows: until it is, its keys are refused "
            "(consumer-unknown)",
            err=True,
        )


def read_lifetime(written: str, option: str) -> timedelta:
    """``90d``, ``12h``, ``1h30m``; not of no time at all. Raises BadParameter."""
    days = _DAYS.fullmatch(written)
    found = timedelta(days=int(days[1])) if days is not None else parse_duration(written)
    if found is None or not timedelta() < found <= _LONGEST:
        raise typer.BadParameter(f'"{written}" is not a duration (such as 90d or 12h)', param_hint=option)
    return found


def key_json(record: KeyRecord, at: datetime) -> dict[str, Any]:
    """A key as programs are told of it: never the key itself, which nobody knows."""
    return {
        "id": record.id,
        "consumer": record.consumer,
        "state": record.state(at).value,
        "created": _written(record.created),
        "expires": None if record.expires is None else _written(record.expires),
        "revoked": None if record.revoked is None else _written(record.revoked),
    }


def _written(at: datetime) -> str:
    return at.replace(microsecond=0).isoformat().replace("+00:00", "Z")
