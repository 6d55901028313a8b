"""Which kind reads a document, and what is said of one that no kind reads."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from isthmus.config.resource import Document
from isthmus.diag import Code, Place, Report, Severity
from isthmus.kinds import KINDS, LATER_KINDS
from isthmus.kinds.shape.kind import AnyKind

UNKNOWN_KIND = Code(
    "ISM2001",
    Severity.ERROR,
    "Unknown kind",
    'no kind "{kind}" in {group}{hint}',
    what="The document's kind is not one that its API group has.",
    why="A misspelt policy would otherwise do nothing.",
    example="apiVersion: security.istio.io/v1\nkind: AuthorisationPolicy",
    fix="Correct the spelling.",
)
WRONG_VERSION = Code(
    "ISM2002",
    Severity.ERROR,
    "Unknown version of a kind",
    '{kind} is not served in "{version}"; it is in {versions}',
    what="The kind exists, but not in this API version.",
    why="Kubernetes would refuse the document.",
    example="apiVersion: networking.istio.io/v2\nkind: Gateway",
    fix="Use one of the versions that the message names.",
)
KIND_LATER = Code(
    "ISM2003",
    Severity.WARNING,
    "Known kind, not supported yet",
    "{kind} is a kind of Istio's that this version does not act on: the document has no effect",
    what="Istio has this kind; this version of Isthmus does nothing with it.",
    why="Nothing that you wrote is ignored in silence.",
    example="apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter",
    fix="Take the document out, or live with its absence.",
)
FOREIGN_KIND = Code(
    "ISM2004",
    Severity.INFO,
    "Kind of another system",
    "{kind} ({version}) is not for Isthmus and has no effect here",
    what="The document belongs to another system, such as Kubernetes itself.",
    why="A folder of manifests usually holds both; you should know what was passed over.",
    example="apiVersion: batch/v1\nkind: Job",
    fix="Nothing, if that is what you expect.",
)

_OUR_GROUPS = ("istio.io", "isthmus.dev")
_BY_NAME = {kind.name: kind for kind in KINDS}
_GROUPS = tuple({version.rpartition("/")[0] for kind in KINDS for version in kind.api_versions} - {""})
_NAMES = tuple(kind.name for kind in KINDS) + tuple(name for names in LATER_KINDS.values() for name in names)
_ALIKE = 0.85


def kind_of(document: Document, report: Report) -> AnyKind | None:
    """Who reads ``document``; None: nobody, and ``report`` says why."""
    name, version = document.ref.kind, document.api_version
    named = _BY_NAME.get(name)
    if named is not None and version in named.api_versions:
        return named
    place = Place(document.source, document.ref)
    group = _group(document)
    if named is not None and group in {known.rpartition("/")[0] for known in named.api_versions}:
        report.add(WRONG_VERSION, place, kind=name, version=version, versions=", ".join(named.api_versions))
    elif name in LATER_KINDS.get(group, ()):
        report.add(KIND_LATER, place, kind=name)
    elif meant_for_us(document):
        close = _close(group, _GROUPS) if group not in _GROUPS else _close(name, _NAMES, 0.6)
        hint = f' (did you mean "{close}"?)' if close else ""
        report.add(UNKNOWN_KIND, place, kind=name, group=group, hint=hint)
    else:
        report.add(FOREIGN_KIND, place, kind=name, version=version)
    return None


def meant_for_us(document: Document) -> bool:
    """Whether a document without a kind that we know was probably to have one."""
    group, name = _group(document), document.ref.kind
    if name in LATER_KINDS.get(group, ()):
        return False
    return group.endswith(_OUR_GROUPS) or (_close(group, _GROUPS) is not None and _close(name, _NAMES) is not None)


def seems_security(document: Document) -> bool:
    """Whether a document without a kind that we know was probably to restrict access."""
    kind = _close(document.ref.kind, _NAMES)
    return _close(_group(document), _GROUPS) == "security.istio.io" or any(
        known.security for known in KINDS if known.name == kind
    )


def _group(document: Document) -> str:
    return document.api_version.rpartition("/")[0]


def _close(written: str, known: Sequence[str], cutoff: float = _ALIKE) -> str | None:
    return next(iter(difflib.get_close_matches(written, known, 1, cutoff)), None)
