"""The manifests that ship: the demo's and the examples', as ``isthmus analyze`` sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.cli.analyze import findings
from isthmus.demo.run import prepare
from isthmus.diag import Severity

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(folder for folder in EXAMPLES.iterdir() if folder.is_dir())
DEVELOPMENT_CERTIFICATE = "ISM2110"
EXPECTED = {name: {DEVELOPMENT_CERTIFICATE} for name in ("edge-mtls", "gateway-and-mesh", "orders", "who-may-do-what")}


def codes(path: Path) -> set[str]:
    """Of errors and warnings."""
    return {found.code.id for found in findings([str(path)]) if found.severity >= Severity.WARNING}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_analyze_finds_what_the_readme_says(folder: Path) -> None:
    assert codes(folder) == EXPECTED.get(folder.name, set())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_example_is_explained_and_listed(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert "isthmus up " in text
    assert f"[{folder.name}]({folder.name})" in (EXAMPLES / "README.md").read_text()


def test_the_demo_has_one_warning(tmp_path: Path) -> None:
    assert codes(prepare(tmp_path / "state").manifests) == {DEVELOPMENT_CERTIFICATE}
