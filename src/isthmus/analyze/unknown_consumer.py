"""Consumers that an AccessPolicy names and that no manifest declares."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from isthmus.analyze.check import Check, at
from isthmus.diag import Code, Report, Severity
from isthmus.model.access import Check as AccessCheck
from isthmus.model.consumer import CLIENT
from isthmus.model.match import Exact
from isthmus.model.mesh import Mesh
from isthmus.model.predicate import FilterMetadata, Predicate, leaves

UNKNOWN_CONSUMER = Code(
    "ISM5082",
    Severity.WARNING,
    "A consumer that is not declared",
    'there is no Consumer "{name}"{hint}: nobody passes as it',
    what="A rule of an AccessPolicy names a consumer that no Consumer manifest declares.",
    why="Credentials are of declared consumers; the name is misspelt, or its namespace left out.",
    example="consumers: [acme]   # the Consumer is acme of the namespace partners: partners/acme",
    fix="Correct the name, write namespace/name, or declare the Consumer.",
)


def run(mesh: Mesh, report: Report) -> None:
    for policy in mesh.policies.access:
        for rule in policy.rules:
            for key in dict.fromkeys(_named(rule.checks)):
                if key not in mesh.consumers:
                    same = [other for other in mesh.consumers if other.endswith(f"/{key.rpartition('/')[2]}")]
                    alike = same or difflib.get_close_matches(key, mesh.consumers, 1)
                    hint = f' (did you mean "{alike[0]}"?)' if alike else ""
                    report.add(UNKNOWN_CONSUMER, at(rule.origin), name=key, hint=hint)


def _named(checks: tuple[tuple[AccessCheck, Predicate], ...]) -> Iterator[str]:
    """The consumers of a rule: the two leaves that ask for one stand side by side."""
    namespace = ""
    for check, wanted in checks:
        for leaf in leaves(wanted) if check is AccessCheck.CLIENT else ():
            if isinstance(leaf, FilterMetadata) and leaf.filter == CLIENT and isinstance(leaf.match, Exact):
                if leaf.path == ("consumer_namespace",):
                    namespace = leaf.match.value
                elif leaf.path == ("consumer",):
                    yield f"{namespace}/{leaf.match.value}"


CHECK = Check("unknown-consumer", (UNKNOWN_CONSUMER,), run)
