"""Diagnostics for people and programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from isthmus.diag import Diagnostic, Severity

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def print_text(diagnostics: Iterable[Diagnostic], *, to_stderr: bool = True) -> None:
    """One clickable line each; colour only on a terminal."""
    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    for found in diagnostics:
        line = Text(str(found))
        line.highlight_words([f" {found.severity.word} "], style=_STYLES[found.severity])
        console.print(line)


def print_json(value: object) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def summary(diagnostics: Iterable[Diagnostic]) -> str:
    """``2 errors, 1 warning``."""
    counts = dict.fromkeys(Severity, 0)
    for found in diagnostics:
        counts[found.severity] += 1
    parts = [
        f"{count} {severity.word}{'s' if count != 1 and severity is not Severity.INFO else ''}"
        for severity, count in sorted(counts.items(), reverse=True)
        if count
    ]
    return ", ".join(parts) or "nothing to report"
