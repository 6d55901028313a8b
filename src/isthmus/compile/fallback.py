"""What holds where a document cannot be read: its last good version, or, of a new security document, a denial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from isthmus.compile.document_kind import seems_security
from isthmus.config.node import Node
from isthmus.config.resource import Document, Resource
from isthmus.diag import Code, Origin, Place, Ref, Report, Severity, Source
from isthmus.kinds.shape.attach import NO_TARGET, TARGET_KINDS
from isthmus.kinds.shape.selector import broken_scope
from isthmus.model.mesh import Mesh
from isthmus.model.policy import Broken
from isthmus.model.selector import Scope

LAST_GOOD = Code(
    "ISM2005",
    Severity.WARNING,
    "The last good version stays in force",
    "this version cannot be read: the one before it stays in force",
    what="A document that was good before now has errors.",
    why="A slip in an edit must not take a running mesh down, nor open it.",
    example="(an edit that breaks a document while `isthmus up` runs)",
    fix="Mend the errors that are reported beside this one.",
)
DENIED_AS_BROKEN = Code(
    "ISM2006",
    Severity.ERROR,
    "A new security document that cannot be read denies",
    "this new {kind} cannot be read: {what} denied until it is mended",
    what="A new security document has errors, and there is no earlier version to stay with.",
    why="It was to restrict access; to ignore it would leave open what you meant to close.",
    example="kind: AuthorizationPolicy\nspec:\n  action: DENNY",
    fix="Mend the errors that are reported beside this one.",
)


@dataclass(frozen=True, slots=True)
class Denied:
    """A new security document that cannot be read."""

    kind: str
    ref: Ref
    source: Source
    root: Node | None


def revert(
    applied: Report,
    resources: Mapping[str, list[Resource[Any]]],
    good: Mapping[Ref, Resource[Any]],
    report: Report,
) -> bool:
    """Put the last good version in the place of what ``apply`` refuses; say whether there was any.

    References that do not resolve are no reason: what they are part of stays in force.
    """
    refused = {found.ref for found in applied.errors if found.code.stops}
    # What takes a route from under a policy waits as well: it would be open from then on.
    aimless = (found.ref for found in applied.errors if found.code is NO_TARGET)
    bared = {ref.namespace for ref in aimless if ref is not None and ref in good}
    reverted = False
    if not refused:
        return reverted
    for group in resources.values():
        for position, resource in enumerate(group):
            earlier = good.get(resource.ref)
            meant = resource.ref in refused or (resource.ref.kind in TARGET_KINDS and resource.ref.namespace in bared)
            if meant and earlier is not None and earlier is not resource:
                report.add(LAST_GOOD, Place(resource.source, resource.ref))
                group[position] = earlier
                reverted = True
    return reverted


def hold_back(
    strays: Sequence[Document],
    good: Mapping[Ref, Resource[Any]],
    resources: Mapping[str, list[Resource[Any]]],
    report: Report,
) -> Iterator[Denied]:
    """While a document of a file is of no kind that we know, what the file gave before and does not give now stays.

    A misspelt kind would otherwise look like a policy that was deleted. A new one that seems to be a security document
    denies, as one whose fields are misspelt does.
    """
    if not strays:
        return
    files = {document.source.file: document for document in strays}
    given = {resource.ref for group in resources.values() for resource in group}
    held: set[tuple[str, str]] = set()
    for ref, resource in good.items():
        stray = files.get(resource.source.file)
        if stray is not None and ref not in given:
            report.add(LAST_GOOD, Place(stray.source, ref))
            resources[ref.kind].append(resource)
            held.add((ref.namespace, ref.name))
    for document in strays:
        if seems_security(document) and (document.ref.namespace, document.ref.name) not in held:
            yield Denied(document.ref.kind, document.ref, document.source, document.root)


def deny_broken(mesh: Mesh, broken: Sequence[Denied], report: Report) -> Mesh:
    """``mesh`` with everything denied that ``broken`` select."""
    denied = []
    for one in broken:
        scope = _broken_scope(one, mesh.settings.root_namespace)
        denied.append(Broken(scope, Origin(one.ref, one.source)))
        what = "the workloads it selects are" if scope.labels else f"namespace {scope.namespace or '(every)'} is"
        report.add(DENIED_AS_BROKEN, Place(one.source, one.ref), kind=one.kind, what=what)
    return replace(mesh, policies=replace(mesh.policies, broken=tuple(denied)))


def _broken_scope(one: Denied, root_namespace: str) -> Scope:
    if one.root is None:
        return Scope(None if one.ref.namespace == root_namespace else one.ref.namespace)
    return broken_scope(one.root, one.ref.namespace, root_namespace)
