"""Policies' own tests, as ``opa test`` runs them: rules that begin with ``test_``, each true or not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

from isthmus.decide.rego.engine import UNDEFINED, compile_policy
from isthmus.decide.rego.literal import mockable, package_of
from isthmus.decide.rego.source import Module, Policy
from isthmus.errors import Undecided

_RULE = re.compile(r"(?m)^(?P<todo>todo_)?(?P<name>test_\w+)")


class Outcome(Enum):
    PASS = "PASS"  # noqa: S105  # a word of opa test
    FAIL = "FAIL"
    ERROR = "ERROR"
    SKIPPED = "SKIPPED"
    """``todo_test_``."""


@dataclass(frozen=True, slots=True)
class TestRule:
    """``package``: with dots. ``line``: of the rule's first definition."""

    __test__ = False
    package: str
    name: str
    file: str
    line: int

    @property
    def path(self) -> str:
        return f"{self.package}.{self.name}".replace(".", "/")


@dataclass(frozen=True, slots=True)
class Tested:
    rule: TestRule
    outcome: Outcome
    seconds: float = 0.0
    error: str = ""


def find_tests(policy: Policy) -> tuple[TestRule, ...]:
    """In order of files and lines; a rule that is defined in several places is one test."""
    found = {rule.path: rule for module in reversed(policy.modules) for rule in reversed(tuple(_rules(module)))}
    return tuple(sorted(found.values(), key=lambda rule: (rule.file, rule.line)))


def _rules(module: Module) -> Iterator[TestRule]:
    package = package_of(module.text)
    if package is None:
        return
    for match in _RULE.finditer(module.text):
        yield TestRule(package, match.group(), module.file, module.text.count("\n", 0, match.start()) + 1)


def run_tests(policy: Policy, rules: tuple[TestRule, ...], clock: Callable[[], float]) -> Iterator[Tested]:
    """``clock``: seconds. Raises PolicyBroken."""
    wanted = [rule for rule in rules if not rule.name.startswith("todo_")]
    mocked = tuple(Module(module.file, mockable(module.text)) for module in policy.modules)
    engine = compile_policy(replace(policy, modules=mocked), tuple(rule.path for rule in wanted)) if wanted else None
    for rule in rules:
        if engine is None or rule not in wanted:
            yield Tested(rule, Outcome.SKIPPED)
            continue
        begun = clock()
        try:
            value = engine.evaluate(rule.path, {})
        except Undecided as broken:
            yield Tested(rule, Outcome.ERROR, clock() - begun, str(broken))
            continue
        passed = value is not UNDEFINED and value is True
        yield Tested(rule, Outcome.PASS if passed else Outcome.FAIL, clock() - begun)
