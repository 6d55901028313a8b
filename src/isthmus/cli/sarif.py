"""Diagnostics as SARIF 2.1.0 (code scanning) and as GitHub workflow commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isthmus import __version__
from isthmus.diag import Code, Diagnostic, Severity

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def as_sarif(found: Sequence[Diagnostic]) -> dict[str, Any]:
    """A SARIF log with one run; each code that was found is a rule of it."""
    codes = {one.code.id: one.code for one in found}
    driver = {"name": "isthmus", "version": __version__, "rules": [_rule(code) for code in codes.values()]}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": [_result(one) for one in found]}],
    }


def _rule(code: Code) -> dict[str, Any]:
    return {
        "id": code.id,
        "shortDescription": {"text": code.title},
        "fullDescription": {"text": f"{code.what} {code.why}"},
        "help": {"text": code.fix},
        "defaultConfiguration": {"level": _LEVELS[code.severity]},
    }


def _result(one: Diagnostic) -> dict[str, Any]:
    region = {"startLine": one.source.line, "startColumn": one.source.column}
    place = {"artifactLocation": {"uri": one.source.file}, "region": region}
    where = " ".join(str(part) for part in (one.ref, one.path) if part)
    return {
        "ruleId": one.code.id,
        "level": _LEVELS[one.severity],
        "message": {"text": f"{where}: {one.message}" if where else one.message},
        "locations": [{"physicalLocation": place}],
    }


def as_github(one: Diagnostic) -> str:
    """``::error file=...,line=...,col=...,title=...::message``, which GitHub shows beside the line."""
    place = f"file={_property(one.source.file)},line={one.source.line},col={one.source.column}"
    where = " ".join(str(part) for part in (one.ref, one.path) if part)
    text = _data(f"{where}: {one.message}" if where else one.message)
    return f"::{_COMMANDS[one.severity]} {place},title={_property(one.code.id)}::{text}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
