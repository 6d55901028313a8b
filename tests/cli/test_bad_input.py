"""What people get wrong: each fault with its file, line and code, never a trace."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.cli.manifests import GATEWAY, ROUTES, SERVICE, SHOP, WORKLOAD, write
from tests.cli.running import Isthmus
from tests.real.up import isthmus as in_a_process

STOPPING = {
    "a tab": (SERVICE.replace("  selector", "\tselector"), "5:1: error ISM1002"),
    "a duplicate key": (SERVICE + "  selector: {app: users}\n", "7:3: error ISM1003"),
    "a wrong type": (ROUTES.replace("[shop.example.com]", "shop.example.com"), "5:10: error ISM1102"),
    "a misspelt field": (ROUTES.replace("gateways:", "gatways:"), "6:3: error ISM1101"),
    "a misspelt kind": (ROUTES.replace("VirtualService", "VirtualServce"), "1:1: error ISM2001"),
}
"""Faults that end a first start."""
UNRESOLVED = {
    "a host nobody serves": (ROUTES.replace("host: orders", "host: oders"), "8:36: error IST0101"),
    "a port nobody serves": (
        ROUTES.replace("host: orders", "host: orders, port: {number: 81}"),
        "8:59: error IST0101",
    ),
    "two gateways claiming one host": (
        GATEWAY.replace("name: edge,", "name: other,"),
        "8:15: error IST0145",
    ),
}
"""Faults that spare the rest."""


@pytest.mark.parametrize("name", [*STOPPING, *UNRESOLVED])
def test_analyze_names_the_place_and_ends_with_1(isthmus: Isthmus, name: str) -> None:
    spoilt, expected = (STOPPING | UNRESOLVED)[name]
    good = [text for text in (GATEWAY, SERVICE, WORKLOAD) if name.startswith("two") or text[:60] != spoilt[:60]]
    write(**{f"good-{index}": text for index, text in enumerate(good)}, spoilt=spoilt)
    ran = isthmus("analyze", "shop")
    assert ran.code == 1
    errors = [line for line in ran.out.splitlines() if ": error " in line]
    assert [line for line in errors if line.startswith(f"shop/spoilt.yaml:{expected} ")], ran.out


def test_nobody_serves_the_host_of_the_routes(isthmus: Isthmus) -> None:
    write(shop=SHOP.replace("hosts: [shop.example.com]\n  gateways", "hosts: [api.example.com]\n  gateways"))
    ran = isthmus("analyze", "shop", "--fail-on", "warning")
    assert ran.code == 1
    assert "shop/shop.yaml:14:11: warning IST0132" in ran.out


def test_up_starts_nothing_and_says_every_fault(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    for index, (spoilt, _) in enumerate(STOPPING.values()):
        (folder / f"{index}.yaml").write_text(spoilt.replace("name: shop,", f"name: shop-{index},"))
    ran = in_a_process("up", "shop", "--state", "state", "--ready-file", "ready.json", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "Traceback" not in ran.stderr
    for index, (_, expected) in enumerate(STOPPING.values()):
        assert f"shop/{index}.yaml:{expected} " in ran.stderr
    assert ran.stderr.splitlines()[-1] == "isthmus: 5 error(s) in the manifests: nothing is started"
    assert not (tmp_path / "ready.json").exists()


def test_up_strict_does_not_start_with_what_does_not_resolve(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(SHOP.replace("host: orders", "host: oders"))
    ran = in_a_process("up", "shop.yaml", "--state", "state", "--strict", cwd=tmp_path)
    assert ran.returncode == 1
    assert "shop.yaml:17:36: error IST0101" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("-----BEGIN PUBLIC KEY-----", "not JSON"),
        (json.dumps({"keys": []}), "no usable key"),
        (None, "No such file or directory"),
    ],
    ids=["not-json", "no-key", "no-file"],
)
@pytest.mark.parametrize("command", ["up", "serve"])
def test_a_jwks_file_that_is_not_one(isthmus: Isthmus, command: str, content: str | None, reason: str) -> None:
    write(shop=SHOP)
    if content is not None:
        Path("keys.json").write_text(content)
    ran = isthmus(command, "shop", "--state", "state", "--jwks", "https://auth.example.com=./keys.json")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"./keys.json:1:1: error ISM6101 --jwks https://auth.example.com: {reason}\n"
    assert not Path("state").exists(), "before anything starts"


def test_a_private_key_is_not_repeated(isthmus: Isthmus) -> None:
    secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"
    key = {"kty": "oct", "k": secret, "d": secret}
    Path("keys.json").write_text(json.dumps({"keys": [key]}))
    ran = isthmus("up", "shop", "--jwks", "https://auth.example.com=keys.json")
    assert ran.code == 1
    assert "keys.json:1:1: error ISM6101" in ran.err
    assert secret not in ran.err


def test_a_port_in_use(isthmus: Isthmus) -> None:
    write(shop=SHOP)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        ran = isthmus("up", "shop", "--state", "state", "-p", f"{port}:80")
    assert (ran.code, ran.out) == (1, "")
    assert (
        ran.err
        == f"isthmus: 127.0.0.1:{port} cannot be opened: Address already in use (asked for with -p, for port 80)\n"
    )


@pytest.mark.parametrize(
    "command",
    [("up", "shop"), ("serve", "shop"), ("token", "--issuer", "https://auth.example.com"), ("ca", "root")],
    ids=lambda command: command[0],
)
def test_a_state_directory_that_cannot_be_written(isthmus: Isthmus, command: tuple[str, ...]) -> None:
    write(shop=SHOP)
    Path("file").touch()
    ran = isthmus(*command, "--state", "file/state")
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("isthmus: ")
    assert line.endswith(": Not a directory")
    assert "/file/state" in line


def test_a_folder_with_other_things_in_it_is_no_state_directory(isthmus: Isthmus) -> None:
    write(shop=SHOP)
    ran = isthmus("up", "shop", "--state", "shop")
    assert ran.code == 1
    assert ran.err.endswith("/shop: not a state directory of Isthmus: it holds 'shop.yaml'\n")
