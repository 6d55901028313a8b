"""The commands of the examples' READMEs, run in a shell as they stand; only ports and long counts are changed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.servers import find_server
from tests.real.up import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PORTS = ("8443", "8080")
_OWN_PORTS = ("9000", "9001", "9080")
"""Where programs of the user's listen, by manifests and their own configuration too."""
_STARTED = (
    "--ready-file ready.json >up.log 2>&1 & up=$!; until [ -f ready.json ]; do kill -0 $up || exit 9; sleep 0.1; done"
)

ANSWERS: dict[str, tuple[str, ...]] = {
    "canary": (r"stable", r'"name": ?"v2"'),
    "dry-run": (
        r"200\n200\n403\n",
        r'"dry_run_deny_policy":"ns\[store\]-policy\[read-only\]',
        r'"dry_run_deny_result":"denied"',
    ),
    "edge-mtls": (
        r"x-forwarded-client-cert",
        r"elsewhere is refused\nrevoked is refused\noutsider is refused\nnobody is refused\n",
    ),
    "external-authorization": (r"HTTP/1\.1 200", r"HTTP/1\.1 403"),
    "foreign-gateway": (r"ns/shop/sa/nginx", r"ns/shop/sa/nginx", r"RBAC: access denied"),
    "gateway-and-mesh": (r"x-forwarded-client-cert", r"RBAC: access denied", r"404"),
    "local-workload": (r"hello", r"RBAC: access denied"),
    "who-may-do-what": (
        r"200\n403\n401\n200\n403\n200\n403\n403\n403\n",
        r"shown this once:\n200\n",
        r"shown this once:\n403\n401\n",
        r"200\n401\n",
        r"403\n",
        *(f'"reason":"{reason}"\n' for reason in ("condition-not-met", "token-missing", *["condition-not-met"] * 3)),
        *(f'"reason":"{reason}"\n' for reason in ("group-missing", "credential-missing", "token-not-bound")),
        r'"reason":"scope-missing"\n"reason":"peer-not-allowed"\n',
    ),
    "orders": (r"200\n200\n403\n(200|201)\n403\n403\n",),
}
"""What each README promises of its commands' output, in order."""
NEEDS = {"foreign-gateway": "nginx"}
"""Other people's programs that a README starts."""


def script(folder: Path) -> str:
    """All blocks as one bash script: ``isthmus up`` goes to the background until it is ready, and ends last."""
    text = "\n".join(_BLOCK.findall((folder / "README.md").read_text()))
    for port in _PORTS:
        # A service's own port in a mesh URL is not one of this machine.
        text = re.sub(rf"(?<!local:)\b{port}\b", str(free_port()), text)
    for port in _OWN_PORTS:
        own = str(free_port())
        text = re.sub(rf"\b{port}\b", own, text)
        for file in (*folder.glob("*.yaml"), *folder.glob("*.conf")):
            file.write_text(re.sub(rf"\b{port}\b", own, file.read_text()))
    for long, short in (("seq 1000", "seq 20"), ("seq 100)", "seq 40)"), ("python -m", f"{sys.executable} -m")):
        text = text.replace(long, short)
    text = re.sub(r"^(isthmus up .*)$", rf"\1 {_STARTED}", text, flags=re.MULTILINE)
    return f"trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n{text}"


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_readme_does_what_it_says(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    places = [Path(sys.executable).parent]
    if name in NEEDS:
        places.append(find_server(NEEDS[name]).parent)
    env = {**os.environ, "PATH": ":".join((*map(str, places), os.environ["PATH"]))}
    with subprocess.Popen(
        ["bash", "-c", script(folder)],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            output, _ = shell.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            output, _ = shell.communicate()
    log = folder / "up.log"
    told = output + (log.read_text() if log.exists() else "")
    position = 0
    for wanted in ANSWERS[name]:
        found = re.compile(wanted).search(output, position)
        assert found is not None, f"no {wanted!r} in order in:\n{told}"
        position = found.end()


def test_every_example_is_here() -> None:
    assert {folder.name for folder in EXAMPLES.iterdir() if folder.is_dir()} == set(ANSWERS)
