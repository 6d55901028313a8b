from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import Isthmus


@pytest.fixture
def isthmus(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Isthmus:
    """The command line, in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("ISTHMUS_STATE", raising=False)
    return Isthmus(capsys, monkeypatch)
