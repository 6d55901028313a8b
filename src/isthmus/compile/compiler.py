"""Documents to Mesh: each kind reads its own, then ``for kind in KINDS: mesh = kind.apply(...)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from isthmus.compile.document_kind import kind_of, meant_for_us
from isthmus.compile.fallback import LAST_GOOD, Denied, deny_broken, hold_back, revert
from isthmus.compile.proxy import assign_proxies
from isthmus.config.decode import Unreadable
from isthmus.config.documents import Broken as Unparsed
from isthmus.config.node import Node
from isthmus.config.resource import Document, Resource
from isthmus.diag import Diagnostic, Place, Ref, Report, Severity
from isthmus.kinds import KINDS
from isthmus.kinds.shape.kind import AnyKind
from isthmus.model.mesh import Mesh
from isthmus.model.reading import keep


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a set of documents adds up to. ``good`` is every resource in force, for the next compilation."""

    mesh: Mesh
    diagnostics: tuple[Diagnostic, ...]
    good: Mapping[Ref, Resource[Any]]

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(found for found in self.diagnostics if found.severity is Severity.ERROR)

    @property
    def stopping(self) -> tuple[Diagnostic, ...]:
        """The errors that a first start ends on."""
        return tuple(found for found in self.errors if found.code.stops)


@dataclass(frozen=True, slots=True)
class _Read:
    """One document, read; kept while its text and place stay."""

    document: Document
    resource: Resource[Any] | None
    diagnostics: tuple[Diagnostic, ...]


class Compiler:
    """Compiles again and again; what did not change is not read again."""

    def __init__(self) -> None:
        self._read: dict[Ref, _Read] = {}
        self._fold = Fold()

    def compile(
        self,
        documents: Sequence[Document],
        good: Mapping[Ref, Resource[Any]] | None = None,
        unparsed: Sequence[Unparsed] = (),
    ) -> Compiled:
        """Fold ``documents`` into a Mesh. ``good``: the resources in force until now; ``unparsed``: what is no YAML.

        A new security document that cannot be read denies what it selects; an earlier version of it stays.
        """
        report = Report()
        good = good or {}
        resources: dict[str, list[Resource[Any]]] = {kind.name: [] for kind in KINDS}
        broken: list[Denied] = []
        strays: list[Document] = []
        for document in documents:
            kind = kind_of(document, report)
            if kind is None:
                if meant_for_us(document):
                    strays.append(document)
                continue
            read = self._reuse(kind, document)
            report.extend(read.diagnostics)
            resource = read.resource
            if resource is None and document.ref in good:
                report.add(LAST_GOOD, Place(document.source, document.ref))
                resource = good[document.ref]
            if resource is not None:
                resources[kind.name].append(resource)
            elif kind.security:
                broken.append(Denied(kind.name, document.ref, document.source, document.root))
        broken.extend(hold_back(strays, good, resources, report))
        mesh, applied = self._fold.fold(resources)
        if revert(applied, resources, good, report):
            mesh, _ = self._fold.fold(resources)
        report.extend(applied)
        given = {document.ref for document in documents} if unparsed else set()
        for unread in unparsed:
            kind = next((kind for kind in KINDS if kind.security and kind.name == unread.kind), None)
            ref = Ref(unread.kind, unread.namespace, unread.name)
            if kind is not None and ref not in given:
                broken.append(Denied(kind.name, ref, unread.source, unread.root))
        mesh = deny_broken(mesh, broken, report)
        kept = {resource.ref: resource for group in resources.values() for resource in group}
        self._read = {document.ref: self._read[document.ref] for document in documents if document.ref in self._read}
        mesh = self._fold.settled("proxies", assign_proxies(mesh, report))
        return Compiled(mesh, tuple(report), kept)

    def _reuse(self, kind: AnyKind, document: Document) -> _Read:
        known = self._read.get(document.ref)
        if known is None or (known.document.digest, known.document.source) != (document.digest, document.source):
            known = _read(kind, document)
            self._read[document.ref] = known
        return known


class Fold:
    """Folds again and again. What a kind adds is the very object of the last time while it is the same.

    So whoever compares with the last time has little to compare.
    """

    def __init__(self) -> None:
        self._last: dict[str, Mesh] = {}

    def fold(self, resources: Mapping[str, Sequence[Resource[Any]]]) -> tuple[Mesh, Report]:
        mesh, report = Mesh(), Report()
        for kind in KINDS:
            mesh = self.settled(kind.name, kind.apply(tuple(resources[kind.name]), mesh, report))
        return mesh, report

    def settled(self, stage: str, mesh: Mesh) -> Mesh:
        """``mesh`` as it is after ``stage``, of the objects of the last time as far as they are the same."""
        found = self._last[stage] = keep(mesh, self._last.get(stage, mesh))
        return found


def _read(kind: AnyKind, document: Document) -> _Read:
    report = Report()
    node = document.root if kind.whole_document else document.root.mapping.get("spec")
    if node is None or node.value is None:
        node = _empty(document)
    try:
        spec = kind.spec.read(node, report)
    except Unreadable:
        return _Read(document, None, tuple(report))
    resource = Resource(document.ref, document.source, document.labels, document.annotations, spec, document.root)
    return _Read(document, resource, tuple(report))


def _empty(document: Document) -> Node:
    """A missing spec reads as an empty one: its reader says which fields are required."""
    return replace(document.root, value={}, path="spec", keys={})
