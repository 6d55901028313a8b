"""Where a user gives us a certificate authority: a folder, or a Secret among the manifests."""

from __future__ import annotations

from pathlib import Path

from isthmus.control.authority_secret import given_by_secret
from isthmus.control.control_plane import ControlPlane
from isthmus.errors import Refused
from isthmus.identity.given import FILES, Given


def given_by(plane: ControlPlane, folder: Path | None) -> Given | None:
    """What ``folder`` holds (``--ca``), else a Secret of the root namespace; None: nobody gives any.

    Raises Refused: the folder is not there, or a file of it cannot be read.
    """
    return given_by_secret(plane) if folder is None else _in_folder(folder)


def _in_folder(folder: Path) -> Given:
    files = {}
    for name in FILES:
        try:
            files[name] = (folder / name).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as failed:
            raise Refused(f"{folder / name}: {failed.strerror}") from failed
    if not files:
        raise Refused(f"{folder}: no certificate authority: none of {', '.join(FILES)} is there")
    return Given(str(folder), files)
