from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.consumer.place import read_url, remember, shown_url, store_url
from isthmus.errors import Refused
from isthmus.state import StateDir

URL = "postgresql://isthmus:hunter2@db.example:5433/credentials?sslmode=verify-full"


def test_in_the_state_unless_it_says_otherwise(tmp_path: Path) -> None:
    state = StateDir.at(tmp_path / "state").open()
    assert store_url(state) is None
    remember(state, URL)
    assert store_url(state) == URL
    assert (state.path / "credentials" / "store-url").stat().st_mode & 0o777 == 0o600
    remember(state, None)
    assert store_url(state) is None


@pytest.mark.parametrize("url", [URL, "postgres://db/x", "postgresql:///x?host=/run/postgresql", f" {URL}\n"])
def test_urls_of_postgresql(url: str) -> None:
    assert read_url(url) == url.strip()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://u:hunter2@db/x",
        "/etc/hunter2",
        "postgresql://u:hunter2@db",
        "postgresql:///x",
        "postgresql://u:hunter2@db:none/x",
        "postgresql://u:hunter2@[db/x",
        "postgresql://u:hunter2@db/x y",
    ],
)
def test_others_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(Refused) as raised:
        read_url(url)
    assert "hunter2" not in str(raised.value)


def test_people_see_no_password() -> None:
    assert shown_url(URL) == "postgresql://db.example:5433/credentials"
    assert shown_url("postgresql:///x?host=/run") == "postgresql:///x"
