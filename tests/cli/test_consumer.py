from __future__ import annotations

import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from isthmus.config.load import load
from isthmus.consumer.key import ApiKey
from isthmus.control.last_good import LastGood
from isthmus.state import StateDir
from tests.cli.running import Isthmus

CONSUMERS = """\
apiVersion: isthmus.dev/v1alpha1
kind: Consumer
metadata: {name: mobile, namespace: shop}
spec: {groups: [apps, eu], plan: gold}
---
apiVersion: isthmus.dev/v1alpha1
kind: Consumer
metadata: {name: partner, namespace: shop}
spec: {certificates: [partner.example]}
---
apiVersion: isthmus.dev/v1alpha1
kind: Consumer
metadata: {name: partner, namespace: other}
spec: {}
"""
STATE = ("--state", "state")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """As a control plane left it that ran these manifests."""
    (tmp_path / "consumers.yaml").write_text(CONSUMERS)
    opened = StateDir.at(tmp_path / "state").open()
    LastGood(opened).save(load([str(tmp_path / "consumers.yaml")]).documents)
    return opened


@pytest.mark.usefixtures("state")
def test_a_key_is_shown_once(isthmus: Isthmus) -> None:
    made = isthmus("consumer", "key", "create", "shop/mobile", *STATE)
    assert made.code == 0
    key = ApiKey.parse(made.out.removesuffix("\n"))
    assert f"key {key.id} of shop/mobile, good until it is revoked; it is shown this once:" in made.err
    assert "note:" not in made.err
    for command in (("key", "list"), ("key", "list", "--all", "-o", "json"), ("show", "mobile"), ("list",)):
        ran = isthmus("consumer", *command, *STATE)
        assert (ran.code, key.secret in ran.out + ran.err) == (0, False)


@pytest.mark.usefixtures("state")
def test_for_programs(isthmus: Isthmus) -> None:
    made = isthmus("consumer", "key", "create", "mobile", "--expires", "90d", "-o", "json", *STATE).json
    assert ApiKey.parse(made["key"]).id == made["id"]
    assert (made["consumer"], made["state"], made["revoked"]) == ("shop/mobile", "live", None)
    assert made["expires"] > made["created"]
    (listed,) = isthmus("consumer", "key", "list", "-o", "json", *STATE).json
    assert listed == {name: value for name, value in made.items() if name != "key"}


@pytest.mark.parametrize("command", ["create", "list", "rotate", "revoke"])
def test_each_command_has_examples(isthmus: Isthmus, command: str) -> None:
    said = isthmus("consumer", "key", command, "-h").said
    assert f" isthmus consumer key {command}" in said.partition("Example")[2]


def test_a_key_may_come_before_its_consumer(isthmus: Isthmus) -> None:
    made = isthmus("consumer", "key", "create", "shop/later", *STATE)
    assert (made.code, len(made.out)) == (0, 56)
    assert "note: no Consumer shop/later is in the manifests that this state knows" in made.err


@pytest.mark.usefixtures("state")
def test_everybody(isthmus: Isthmus) -> None:
    isthmus("consumer", "key", "create", "shop/mobile", *STATE)
    isthmus("consumer", "key", "create", "shop/stranger", *STATE)
    rows = {row["consumer"]: row for row in isthmus("consumer", "list", "-o", "json", *STATE).json}
    assert {key: row["keys"] for key, row in rows.items()} == {
        "other/partner": 0,
        "shop/mobile": 1,
        "shop/partner": 0,
        "shop/stranger": 1,
    }
    assert (rows["shop/mobile"]["groups"], rows["shop/mobile"]["plan"]) == (["apps", "eu"], "gold")
    assert rows["shop/mobile"]["declared"].endswith("consumers.yaml:1:1")
    assert rows["shop/stranger"]["declared"] is None
    shown = isthmus("consumer", "list", *STATE).out
    assert "nowhere: its keys are refused" in shown


@pytest.mark.usefixtures("state")
def test_one_of_them(isthmus: Isthmus) -> None:
    isthmus("consumer", "key", "create", "shop/mobile", "--expires", "90d", *STATE)
    shown = isthmus("consumer", "show", "mobile", *STATE)
    assert "groups        apps, eu\nplan          gold\ncertificates  -\nkey           " in shown.out
    assert isthmus("consumer", "show", "shop/partner", "-o", "json", *STATE).json["keys"] == []
    missing = isthmus("consumer", "show", "shop/nobody", *STATE)
    assert (missing.code, missing.err) == (
        1,
        "isthmus: there is no Consumer shop/nobody in the manifests, and it has no keys\n",
    )


@pytest.mark.usefixtures("state")
def test_rotated(isthmus: Isthmus) -> None:
    old = isthmus("consumer", "key", "create", "mobile", "--expires", "90d", "-o", "json", *STATE).json
    made = isthmus("consumer", "key", "rotate", old["id"], "--grace", "1h", *STATE)
    assert f"key {old['id']} stays good until " in made.err
    new = ApiKey.parse(made.out.strip()).id
    found = {one["id"]: one for one in isthmus("consumer", "key", "list", "-o", "json", *STATE).json}
    assert found.keys() == {old["id"], new}
    assert found[old["id"]]["expires"] < old["expires"] <= found[new]["expires"]
    again = isthmus("consumer", "key", "rotate", "0123456789ab", *STATE)
    assert (again.code, again.err) == (1, "isthmus: there is no key 0123456789ab\n")


@pytest.mark.usefixtures("state")
def test_revoked(isthmus: Isthmus) -> None:
    keys = [isthmus("consumer", "key", "create", "shop/mobile", *STATE).out.strip() for _ in range(3)]
    ids = [ApiKey.parse(key).id for key in keys]
    assert isthmus("consumer", "key", "revoke", ids[0], *STATE).err == f"key {ids[0]} is revoked\n"
    # Whoever finds a key somewhere has the whole of it.
    assert isthmus("consumer", "key", "revoke", keys[1], *STATE).err == f"key {ids[1]} is revoked\n"
    assert [one["id"] for one in isthmus("consumer", "key", "list", "-o", "json", *STATE).json] == [ids[2]]
    rest = isthmus("consumer", "key", "revoke", "--consumer", "mobile", "-o", "json", *STATE)
    assert rest.json == {"revoked": [ids[2]], "missing": []}
    every = isthmus("consumer", "key", "list", "--all", "-o", "json", *STATE).json
    assert {one["state"] for one in every} == {"revoked"}
    for again in (("rotate", ids[0]), ("revoke", "--consumer", "mobile"), ("revoke", "0123456789ab")):
        assert isthmus("consumer", "key", *again, *STATE).code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("key", "create", "nobody"), 'no Consumer is called "nobody" in the manifests: write NAMESPACE/NAME'),
        (("key", "create", "partner"), '"partner" could be other/partner or shop/partner'),
        (("key", "create", "a/b/c"), '"a/b/c" is not NAMESPACE/NAME'),
        (("key", "create", "shop/no such"), '"shop/no such" is not NAMESPACE/NAME'),
        (("key", "create", "/b"), '"/b" is not NAMESPACE/NAME'),
        (("key", "create", "mobile", "--expires", "soon"), '"soon" is not a duration (such as 90d or 12h)'),
        (("key", "create", "mobile", "--expires", "0s"), '"0s" is not a duration'),
        (("key", "create", "mobile", "--expires", "99999d"), '"99999d" is not a duration'),
        (("key", "rotate", "isk_hunter2"), "that is no id of a key"),
        (("key", "revoke"), "either ids or --consumer"),
        (("key", "revoke", "0123456789ab", "--consumer", "mobile"), "either ids or --consumer"),
        (("store", "--url-file", "a", "--own-file"), "either --url-file or --own-file"),
    ],
)
@pytest.mark.usefixtures("state")
def test_wrong_usage(isthmus: Isthmus, arguments: tuple[str, ...], said: str) -> None:
    ran = isthmus("consumer", *arguments, *STATE)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.said
    assert "hunter2" not in ran.said


@pytest.mark.parametrize(
    "arguments", [("list",), ("show", "a/b"), ("key", "list"), ("key", "rotate", "0" * 12), ("key", "revoke", "0" * 12)]
)
def test_where_there_is_no_state_none_is_made(isthmus: Isthmus, arguments: tuple[str, ...]) -> None:
    ran = isthmus("consumer", *arguments, "--state", "nowhere")
    assert (ran.code, ran.err) == (1, "isthmus: nowhere is not a state directory: name it by --state\n")
    assert not Path("nowhere").exists()


def test_where_they_are(isthmus: Isthmus, state: StateDir) -> None:
    shown = isthmus("consumer", "store", *STATE)
    assert shown.out == f"{state.path}/credentials/keys.sqlite: 0 live keys\n"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (None, "url: No such file or directory"),
        ("mysql://u:hunter2@db/x", "the store's URL must be postgresql://USER:PASSWORD@HOST/DATABASE"),
        ("postgresql://u:hunter2@127.0.0.1:1/x", "postgresql://127.0.0.1:1/x: connection failed"),
    ],
)
def test_another_place_is_tried_before_it_is_taken(
    isthmus: Isthmus, state: StateDir, written: str | None, said: str
) -> None:
    if written is not None:
        Path("url").write_text(written)
    ran = isthmus("consumer", "store", "--url-file", "url", *STATE)
    assert ran.code == 1
    assert ran.err.startswith(f"isthmus: {said}")
    assert "hunter2" not in ran.err
    assert not state.within("credentials/store-url").exists()


def test_a_store_that_cannot_be_read(isthmus: Isthmus, state: StateDir) -> None:
    state.write_private("credentials/keys.sqlite", b"something else" * 100)
    ran = isthmus("consumer", "key", "list", *STATE)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"isthmus: {state.path}/credentials/keys.sqlite: file is not a database\n"


def test_whoever_is_nobody_has_no_list_of_keys(isthmus: Isthmus, state: StateDir) -> None:
    assert isthmus("consumer", "key", "list", "shop/partner", "-o", "json", *STATE).json == []
    ran = isthmus("consumer", "key", "list", "shop/parnter", "-o", "json", *STATE)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "isthmus: there is no Consumer shop/parnter in the manifests, and it has no keys\n"


def test_a_store_that_another_program_holds(isthmus: Isthmus, state: StateDir) -> None:
    key = ApiKey.parse(isthmus("consumer", "key", "create", "mobile", *STATE).out.strip()).id
    file = state.within("credentials/keys.sqlite")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert isthmus("consumer", "key", "list", *STATE).code == 0, "who reads does not wait for who writes"
        begun = time.monotonic()
        ran = isthmus("consumer", "key", "revoke", key, "-o", "json", *STATE)
        assert time.monotonic() - begun < 15, "a few seconds, on a machine that has something else to do"
        assert (ran.code, ran.out) == (1, "")
        assert ran.err == (
            f"isthmus: {file}: another program has held it for 3 s (database is locked): try again when that is done\n"
        )
    assert isthmus("consumer", "key", "revoke", key, *STATE).code == 0


def test_a_postgresql_that_says_nothing(isthmus: Isthmus, state: StateDir) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"127.0.0.1:{silent.getsockname()[1]}"
        state.write_private("credentials/store-url", f"postgresql://u:hunter2@{at}/x".encode())
        begun = time.monotonic()
        ran = isthmus("consumer", "key", "list", "-o", "json", *STATE)
        assert time.monotonic() - begun < 15, "a few seconds, on a machine that has something else to do"
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"isthmus: postgresql://{at}/x: connection timeout expired\n"
