"""``isthmus rego``: policies' own tests, and what a policy says of an input."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.cli.exit import EXIT_OURS, EXIT_USAGE, EXIT_USER
from isthmus.cli.lazy import Named, group_of
from isthmus.cli.option import Format, Output
from isthmus.cli.report import print_json
from isthmus.decide.rego.engine import UNDEFINED, compile_policy
from isthmus.decide.rego.load import load_policy
from isthmus.decide.rego.testing import Outcome, Tested, find_tests, run_tests
from isthmus.errors import PolicyBroken, Undecided
from isthmus.model.rego import DEFAULT_PATH

app = typer.Typer(
    name="rego",
    cls=group_of((Named("test", "run_all", "rego"), Named("eval", "eval_", "rego"))),
    help="Rego policies: run their tests, ask them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)
Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH...", help="Rego and data files, folders of them, and manifests with RegoPolicies.", exists=True
    ),
]


@app.callback()
def _group() -> None:
    pass


def run_all(
    paths: Paths,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Every test, not only what failed.")] = False,
    run: Annotated[str, typer.Option("--run", metavar="REGEX", help="Only tests whose full name holds this.")] = "",
    output: Output = Format.TEXT,
) -> int:
    """Run the rules that begin with test_, as `opa test` does. Exit 1 if one of them is not true.

    By the same engine that decides about requests. Rules that begin with todo_test_ are skipped.

    Example:

        isthmus rego test policy/ manifests/authz.yaml -v
    """
    try:
        wanted = re.compile(run)
    except re.error as broken:
        typer.echo(f"isthmus: --run: {broken}", err=True)
        return EXIT_USAGE
    return _apart(lambda: _test(paths, wanted, verbose, output))


def _apart(work: Callable[[], int]) -> int:
    """In a process of its own: the engine may not survive a policy that it does not understand."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = EXIT_OURS
        try:
            code = work()
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        typer.echo("isthmus: the engine ended: rego-cpp lacks a form of Rego that the policy uses", err=True)
        return EXIT_USER
    return os.waitstatus_to_exitcode(status)


def _test(paths: list[Path], wanted: re.Pattern[str], verbose: bool, output: Format) -> int:
    try:
        policy = load_policy(paths)
        rules = tuple(rule for rule in find_tests(policy) if wanted.search(f"data.{rule.package}.{rule.name}"))
        tested = tuple(run_tests(policy, rules, time.perf_counter))
    except PolicyBroken as broken:
        _say_broken(broken)
        return EXIT_USER
    if output is Format.JSON:
        print_json({"tests": [_row(one) for one in tested], **_counts(tested)})
    else:
        _print(tested, verbose)
    return EXIT_USER if any(one.outcome in (Outcome.FAIL, Outcome.ERROR) for one in tested) else 0


def eval_(
    paths: Paths,
    input_: Annotated[
        str, typer.Option("--input", metavar="FILE", help="The input document, JSON; - for standard input.")
    ] = "",
    path: Annotated[str, typer.Option("--path", metavar="PATH", help="Of the rule.")] = DEFAULT_PATH,
) -> int:
    """Print what a rule says of an input, as JSON. Exit 1 if it is undefined, or fails.

    Example:

        isthmus rego eval policy/ --path envoy/authz/allow --input request.json
    """
    try:
        document = _input(input_)
    except (OSError, ValueError) as broken:
        typer.echo(f"isthmus: --input: {broken}", err=True)
        return EXIT_USAGE
    return _apart(lambda: _eval(paths, path, document))


def _eval(paths: list[Path], path: str, document: Any) -> int:
    try:
        policy = load_policy(paths)
        # Tests are for the other command: what they may use, requests may not.
        modules = tuple(module for module in policy.modules if not module.file.endswith("_test.rego"))
        value = compile_policy(replace(policy, modules=modules), (path,)).evaluate(path, document)
    except PolicyBroken as broken:
        _say_broken(broken)
        return EXIT_USER
    except Undecided as broken:
        typer.echo(f"isthmus: {broken}", err=True)
        return EXIT_USER
    if value is UNDEFINED:
        typer.echo("isthmus: undefined", err=True)
        return EXIT_USER
    print_json(value)
    return 0


def _input(name: str) -> Any:
    if not name:
        return {}
    return json.loads(sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8"))


def _say_broken(broken: PolicyBroken) -> None:
    for problem in str(broken).split("; "):
        typer.echo(f"isthmus: {problem}", err=True)


def _row(one: Tested) -> dict[str, Any]:
    row: dict[str, Any] = {
        "package": f"data.{one.rule.package}",
        "name": one.rule.name,
        "result": one.outcome.value,
        "file": one.rule.file,
        "line": one.rule.line,
        "seconds": round(one.seconds, 6),
    }
    return {**row, "error": one.error} if one.error else row


def _counts(tested: tuple[Tested, ...]) -> dict[str, int]:
    names = {Outcome.PASS: "passed", Outcome.FAIL: "failed", Outcome.ERROR: "errors", Outcome.SKIPPED: "skipped"}
    return {name: sum(one.outcome is outcome for one in tested) for outcome, name in names.items()}


def _print(tested: tuple[Tested, ...], verbose: bool) -> None:
    for one in tested:
        if verbose or one.outcome in (Outcome.FAIL, Outcome.ERROR):
            name = f"data.{one.rule.package}.{one.rule.name}"
            typer.echo(f"{one.rule.file}:{one.rule.line}: {name}: {one.outcome.value} ({one.seconds * 1000:.2f} ms)")
            if one.error:
                typer.echo(f"  {one.error}")
    if not tested:
        typer.echo("no tests")
    for outcome in Outcome:
        count = sum(one.outcome is outcome for one in tested)
        if count:
            typer.echo(f"{outcome.value}: {count}/{len(tested)}")
