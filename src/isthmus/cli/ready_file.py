"""The ready file of ``up``: there, and whole, while everything runs and is in sync."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from isthmus.errors import Refused


def clear(path: Path) -> None:
    """Remove what an ``up`` that was killed left: who waits for the file must not find that one.

    Raises Refused where it could not be written later either: better told now than when everything runs.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise Refused(f"{path}: no such folder to write the ready file in")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Refused(f"{path}: the ready file cannot be written: no right to write in {folder}")
    try:
        path.unlink(missing_ok=True)
    except OSError as failed:
        raise Refused(f"{path}: the ready file cannot be written: {failed.strerror}") from None


def write(path: Path, ready: Mapping[str, Any]) -> None:
    """To a temporary name, then renamed. Raises Refused."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(ready, indent=2) + "\n")
        temporary.replace(path)
    except OSError as failed:
        remove(temporary)
        raise Refused(f"{path}: the ready file cannot be written: {failed.strerror}") from None


def remove(path: Path) -> None:
    """At the end of ``up``, which a file that cannot be removed must not hold up."""
    with suppress(OSError):
        path.unlink()
