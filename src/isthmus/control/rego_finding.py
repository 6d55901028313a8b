"""What the engine says of the Rego that stands in manifests. Pure: who asks the engine is in serve/ and cli/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.control.rego import rego_policies
from isthmus.decide.rego.source import Module, Policy
from isthmus.diag import Code, Diagnostic, Place, Report, Severity
from isthmus.model.mesh import Mesh
from isthmus.model.rego import RegoModule, RegoPolicy

BROKEN_REGO = Code(
    "ISM7040",
    Severity.ERROR,
    "Rego that cannot decide",
    "{problem}: all that the policy is about is refused, unless an earlier text of it still decides",
    what="The text of a RegoPolicy cannot be compiled, or uses what may not decide: a function that the engine lacks, "
    "a variable that nothing binds, opa.runtime, a rule that is not there.",
    why="The engine would take a function that it lacks for undefined, which is true under a not.",
    example='allow if not net.cidr_contains("10.0.0.0/8", input.attributes.source.address.socketAddress.address)',
    fix="Follow the message; isthmus rego test runs the policy without requests.",
    stops=False,
)


@dataclass(frozen=True, slots=True)
class RegoText:
    """What the engine is asked about."""

    policy: str
    path: str
    modules: tuple[RegoModule, ...]
    data: str

    @property
    def source(self) -> Policy:
        modules = tuple(Module(module.file, module.text) for module in self.modules)
        return Policy(self.policy, modules, json.loads(self.data))


def rego_texts(mesh: Mesh) -> frozenset[RegoText]:
    return frozenset(_text(policy) for policy in rego_policies(mesh) if policy.modules)


def rego_findings(mesh: Mesh, problems: Mapping[RegoText, str | None]) -> tuple[Diagnostic, ...]:
    """``problems``: by what was asked; None: it can decide."""
    report = Report()
    for policy in rego_policies(mesh):
        problem = problems.get(_text(policy))
        if problem is not None:
            report.add(BROKEN_REGO, Place(policy.origin.source, policy.origin.ref, "spec.rego"), problem=problem)
    return tuple(report)


def _text(policy: RegoPolicy) -> RegoText:
    return RegoText(policy.key, policy.path, policy.modules, policy.data)
