"""``isthmus analyze``: everything that can be said without running."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from isthmus.analyze import CHECKS
from isthmus.cli.exit import EXIT_USER
from isthmus.cli.loading import load
from isthmus.cli.option import Paths
from isthmus.cli.report import print_json, print_text, summary
from isthmus.cli.sarif import as_github, as_sarif
from isthmus.control.rego_finding import rego_findings, rego_texts
from isthmus.decide.rego.load import examine_all
from isthmus.diag import Diagnostic, Report, Severity
from isthmus.model.mesh import Mesh


class Layout(StrEnum):
    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


class Threshold(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


def analyze(
    paths: Paths,
    output: Annotated[Layout, typer.Option("-o", "--output", help="How to report.")] = Layout.TEXT,
    fail_on: Annotated[Threshold, typer.Option("--fail-on", help="Exit 1 on findings this bad or worse.")] = (
        Threshold.ERROR
    ),
) -> int:
    """Say everything that can be said without running: schema, references, conflicts, pitfalls.

    Examples:

        isthmus analyze shop/

        isthmus analyze shop/ --fail-on warning -o sarif > isthmus.sarif

        kustomize build . | isthmus analyze -
    """
    found = findings(paths)
    match output:
        case Layout.TEXT:
            print_text(found, to_stderr=False)
            typer.echo(summary(found), err=True)
        case Layout.JSON:
            print_json([one.as_json() for one in found])
        case Layout.SARIF:
            print_json(as_sarif(found))
        case Layout.GITHUB:
            for one in found:
                typer.echo(as_github(one))
    worst = max((one.severity for one in found), default=None)
    return EXIT_USER if worst is not None and worst >= Severity[fail_on.value.upper()] else 0


async def _of_rego(mesh: Mesh) -> tuple[Diagnostic, ...]:
    """The texts are given to the engine, in a process of its own."""
    asked = sorted(rego_texts(mesh), key=lambda text: text.policy)
    problems = await examine_all([(text.source, text.path) for text in asked])
    return rego_findings(mesh, dict(zip(asked, problems, strict=True)))


def findings(paths: Sequence[str]) -> tuple[Diagnostic, ...]:
    """Everything that loading, compiling and the checks have to say, in order of place."""
    compiled, found = load(paths)
    report = Report()
    report.extend(found)
    for check in CHECKS:
        check.look(compiled.mesh, report, datetime.now(UTC))
    report.extend(asyncio.run(_of_rego(compiled.mesh)))
    return tuple(report)
