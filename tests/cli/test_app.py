from __future__ import annotations

import subprocess
import sys

import pytest

from isthmus import __version__
from isthmus.cli.app import COMMANDS
from tests.cli.running import Isthmus

GROUPS = {
    "ca": ("root",),
    "consumer": ("list", "show", "store"),
    "doctor": ("tls",),
    "node": ("token", "list", "evict"),
    "proxy": ("gateway", "sidecar"),
    "rego": ("test", "eval"),
    "svid": ("x509", "jwt"),
}
PUBLIC = tuple(command.name for command in COMMANDS if command.name not in ("agent", *GROUPS))
HEAVY = ("grpc", "google.protobuf", "cryptography", "httpx", "starlette", "uvicorn", "yaml", "watchfiles")


def test_version(isthmus: Isthmus) -> None:
    ran = isthmus("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"isthmus {__version__}\n", "")


def test_help_lists_every_command_and_hides_the_agent(isthmus: Isthmus) -> None:
    ran = isthmus("--help")
    assert ran.code == 0
    assert all(f" {name} " in ran.said for name in (*PUBLIC, *GROUPS))
    assert " agent " not in ran.said


@pytest.mark.parametrize(
    "command",
    [*((name,) for name in PUBLIC), *((group, name) for group, names in GROUPS.items() for name in names)],
    ids=" ".join,
)
def test_every_command_has_examples(isthmus: Isthmus, command: tuple[str, ...]) -> None:
    ran = isthmus(*command, "-h")
    assert ran.code == 0
    assert "Example" in ran.said
    assert f" isthmus {' '.join(command)}" in ran.said.partition("Example")[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("analyse",), "Did you mean 'analyze'?"),
        (("analyze",), "Missing argument 'PATH...'"),
        (("analyze", "--nope", "x"), "No such option: --nope"),
        (("analyze", "x", "-o", "xml"), "'xml' is not one of 'text', 'json', 'sarif', 'github'"),
        (("up", "x", "-p", "443"), '"443" is not [ADDR:]HOST:DECLARED'),
        (("up", "x", "-p", "8443:70000"), "a port is 1 to 65535"),
        (("up", "x", "-p", "example.com:8443:443"), '"example.com" is not an IP address'),
        (("up", "x", "--svid-ttl", "5s"), "a certificate lives at least 10s"),
        (("up", "x", "--jwks", "keys.json"), '"keys.json" is not ISSUER=FILE'),
        (("run", "-l", "x", "--", "true"), '"x" is not K=V'),
        (("ca", "root", "more"), "Got unexpected extra argument"),
        ((), "Usage: isthmus"),
    ],
)
def test_wrong_usage(isthmus: Isthmus, arguments: tuple[str, ...], said: str) -> None:
    ran = isthmus(*arguments)
    assert ran.code == 2
    assert said in ran.said


@pytest.mark.parametrize(
    ("arguments", "light"),
    [(("--version",), HEAVY), (("ca", "root"), ("grpc", "google.protobuf", "httpx", "starlette", "uvicorn"))],
    ids=["version", "ca-root"],
)
def test_a_small_command_imports_little(arguments: tuple[str, ...], light: tuple[str, ...]) -> None:
    program = f"import sys; from isthmus.cli import execute; execute({list(arguments)!r}); print(*sys.modules)"
    ran = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, timeout=60, check=True)
    assert not set(light) & set(ran.stdout.split())


def test_a_fault_of_ours_shows_its_trace(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from isthmus.cli import analyze, execute

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(analyze, "findings", broken)
    assert execute(["analyze", "x"]) == 70
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err
    assert err.endswith("isthmus: this is a fault of Isthmus, not of your manifests\n")
