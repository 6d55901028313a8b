from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from isthmus.errors import Refused
from isthmus.proxy.workload_api.socket_file import check, listen

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def test_a_new_socket_lets_in_whom_its_mode_says(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listen(path, 0o666), socket.socket(socket.AF_UNIX) as asking:
        assert path.stat().st_mode & 0o777 == 0o666
        asking.connect(str(path))


def test_one_that_was_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    listen(path, 0o600).close()
    check(path)
    listen(path, 0o600).close()


def test_one_that_is_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listen(path, 0o600), pytest.raises(Refused, match="another process listens there"):
        check(path)


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(Refused, match="not a socket"):
        listen(path, 0o600)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="symbolic link"):
        listen(link, 0o600)
    assert path.read_text() == "mine"


@needs_root
def test_a_socket_that_another_user_owns(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    listen(path, 0o600).close()
    os.chown(path, 61001, 61001)
    with pytest.raises(Refused, match=r"another user owns \(uid 61001\)"):
        listen(path, 0o600)


@needs_root
def test_a_folder_that_another_user_owns(tmp_path: Path) -> None:
    folder = tmp_path / "theirs" / "inner"
    folder.mkdir(parents=True)
    os.chown(tmp_path / "theirs", 61001, 61001)
    with pytest.raises(Refused, match="another user owns the folder"):
        check(folder / "api.sock")


@needs_root
def test_a_link_that_another_user_can_turn(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    link = tmp_path / "theirs" / "link"
    link.symlink_to(tmp_path / "ours")
    check(link / "api.sock")
    os.lchown(link, 61001, 61001)
    with pytest.raises(Refused, match="another user owns the folder"):
        check(link / "api.sock")
    os.lchown(link, 0, 0)
    os.chown(tmp_path / "theirs", 61001, 61001)
    with pytest.raises(Refused, match="another user owns the folder"):
        check(link / "api.sock")


def test_a_folder_where_anybody_writes(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(Refused, match="other users may write"):
        check(folder / "api.sock")
    folder.chmod(0o1777)
    check(folder / "api.sock")


@pytest.mark.parametrize("path", ["relative.sock", "/tmp/" + "x" * 100])
def test_paths_that_are_none_for_a_socket(path: str) -> None:
    with pytest.raises(Refused, match="absolute and has at most 103 bytes"):
        check(Path(path))


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"):
        check(tmp_path / "none" / "api.sock")
