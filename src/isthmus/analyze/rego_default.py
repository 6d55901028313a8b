"""Rego decisions that may be undefined."""

from __future__ import annotations

import re

from isthmus.analyze.check import Check, at
from isthmus.diag import Code, Report, Severity
from isthmus.model.mesh import Mesh
from isthmus.model.rego import RegoPolicy

NO_DEFAULT = Code(
    "ISM5120",
    Severity.WARNING,
    "A Rego decision without a default",
    'nothing says what "{name}" is when no rule holds: such requests are refused as rego-undefined',
    what="The module of a RegoPolicy has no default for the rule that decides.",
    why="An undefined decision is a refusal; but the log cannot tell it from a mistake in the policy.",
    example='allow if input.parsed_path[0] == "public"   # and no default allow := false',
    fix="Write default allow := false.",
)


def run(mesh: Mesh, report: Report) -> None:
    for policy in mesh.policies.rego:
        if isinstance(policy, RegoPolicy) and policy.modules:
            name = policy.path.rpartition("/")[2]
            default = re.compile(rf"(?m)^\s*default\s+{re.escape(name)}\b")
            if not any(default.search(module.text) for module in policy.modules):
                report.add(NO_DEFAULT, at(policy.origin), name=name)


CHECK = Check("rego-default", (NO_DEFAULT,), run)
