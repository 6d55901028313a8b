from __future__ import annotations

from pathlib import Path

from isthmus.proxy.place import Folders, open_log, open_new
from isthmus.state import SOCKET_PATH_MAX_BYTES

PLACES = Folders(Path("/state"), Path("/run/user/1000/isthmus-12345678"))


def test_sockets_of_the_longest_names_fit() -> None:
    longest = f"sidecar~{'n' * 63}~{'w' * 253}"
    for path in (PLACES.admin_socket(longest), PLACES.sds_socket(longest)):
        assert len(str(path)) <= SOCKET_PATH_MAX_BYTES


def test_every_proxy_has_its_own() -> None:
    ids = ("sidecar~a~b", "gateway~a~b", "sidecar~a~c")
    assert len({PLACES.sds_socket(one) for one in ids} | {PLACES.admin_socket(one) for one in ids}) == 6


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    log = tmp_path / "log" / "one.log"
    for _ in range(2):
        with open_log(log) as file:
            file.write(b"line\n")
    with open_new(tmp_path / "new") as file:
        file.write(b"new")
    assert log.read_bytes() == b"line\nline\n"
    assert {path.stat().st_mode & 0o077 for path in (log, log.parent, tmp_path / "new")} == {0}


def test_a_bootstrap_says_that_an_envoy_is_there(tmp_path: Path) -> None:
    places = Folders(tmp_path, tmp_path)
    (tmp_path / "stdin.yaml").touch()
    assert not places.holds_envoys
    places.bootstrap("sidecar~a~b").touch()
    assert places.holds_envoys
