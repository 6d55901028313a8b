"""The file of a Unix socket that others find us by: made where nobody else can have put one."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from isthmus.errors import Refused

LONGEST = 103
"""Bytes of a Unix socket's path, on every system."""
_BACKLOG = 128
_SCHEME = "unix://"


def socket_path(written: str) -> Path:
    """The socket that ``unix:///path`` (SPIFFE_ENDPOINT_SOCKET) or a plain path means. Raises Refused."""
    path = Path(written.removeprefix(_SCHEME))
    if not path.is_absolute():
        raise Refused(f'"{written}" is not unix:/// and an absolute path')
    return path


def check(path: Path) -> None:
    """Whether a socket can be made at ``path``. Raises Refused, which says what stands there, or why it is not safe.

    A socket of ours that nobody listens on any more is no hindrance.
    """
    if not path.is_absolute() or len(os.fsencode(path)) > LONGEST:
        raise Refused(f"{path}: the path of a Unix socket is absolute and has at most {LONGEST} bytes")
    _check_folder(path.parent)
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    except OSError as failed:
        raise Refused(f"{path}: {failed.strerror}") from failed
    if stat.S_ISLNK(there.st_mode):
        raise Refused(f"{path}: a symbolic link stands there, and is not followed")
    if not stat.S_ISSOCK(there.st_mode):
        raise Refused(f"{path}: a file that is not a socket stands there")
    if there.st_uid != os.geteuid():
        raise Refused(f"{path}: a socket that another user owns (uid {there.st_uid}) stands there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        if asking.connect_ex(str(path)) == 0:
            raise Refused(f"{path}: another process listens there")


def _check_folder(folder: Path) -> None:
    """Nobody else may be able to put another socket, or another folder of that name, in the place of ours."""
    try:
        here = folder.resolve(strict=True)
        links = [one for one in (folder, *folder.parents) if one.is_symlink()]
        for each in (here, *here.parents, *links):
            status = each.lstat()
            link = stat.S_ISLNK(status.st_mode)
            if not link and not stat.S_ISDIR(status.st_mode):
                raise Refused(f"{each}: not a folder")
            if status.st_uid not in (0, os.geteuid()):
                # Of a link too: tomorrow it may lead to a folder where somebody else's socket is found by our name.
                raise Refused(f"{each}: another user owns the folder (uid {status.st_uid})")
            if not link and status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
                raise Refused(f"{each}: other users may write in the folder")
        for one in links:
            _check_folder(one.parent)
    except OSError as failed:
        raise Refused(f"{folder}: {failed.strerror}") from failed


def listen(path: Path, mode: int) -> socket.socket:
    """A listening socket at ``path``, which whoever ``mode`` says may connect to. Raises Refused."""
    check(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        path.chmod(mode)
        listening.listen(_BACKLOG)
    except OSError as failed:
        listening.close()
        raise Refused(f"{path}: cannot listen there: {failed.strerror}") from failed
    return listening
