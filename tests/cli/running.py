"""The command line in this process: what it printed and how it ended."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from isthmus.cli import execute

_FRAME = re.compile(r"[╭╮╰╯│─\s]+")


@dataclass(frozen=True, slots=True)
class Ran:
    """``code`` is the exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def said(self) -> str:
        """Both outputs as one line, without the frames that help and usage errors stand in."""
        return _FRAME.sub(" ", self.out + self.err).strip()


class Isthmus:
    """Runs one command after another in the current folder."""

    def __init__(self, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._capture = capture
        self._patch = patch

    def __call__(self, *arguments: str, stdin: str | None = None) -> Ran:
        self._capture.readouterr()
        with self._patch.context() as patch:
            if stdin is not None:
                patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            code = execute(list(arguments))
        out, err = self._capture.readouterr()
        assert "Traceback" not in err, err
        return Ran(code, out, err)
