"""Documents to Mesh: each kind reads its own, then ``for kind in KINDS: mesh = kind.apply(...)``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from isthmus.config.decode import Unreadable
from isthmus.config.documents import Broken as Unparsed
from isthmus.config.node import Node
from isthmus.config.resource import Document, Resource
from isthmus.diag import Code, Diagnostic, Origin, Place, Ref, Report, Severity, Source
from isthmus.kinds import KINDS, LATER_KINDS
from isthmus.kinds.shape.attach import NO_TARGET, TARGET_KINDS
from isthmus.kinds.shape.kind import AnyKind
from isthmus.kinds.shape.selector import broken_scope
from isthmus.model.identity import Identity
from isthmus.model.mesh import Mesh
from isthmus.model.policy import Broken
from isthmus.model.proxy import Proxy, Role
from isthmus.model.reading import keep
from isthmus.model.selector import Scope, labels_match
from isthmus.model.workload import Placement

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

SAME_PROXY = Code(
    "ISM2009",
    Severity.ERROR,
    "Two gateway proxies of one name",
    "its proxy would be {id}, which {other} has already: its servers are not opened",
    what="A Gateway that no Deployment carries gets a proxy of its own name, which a Deployment's has already.",
    why="Two proxies of one name would take each other's configuration and identity.",
    example="kind: Deployment, name: edge, labels {app: a}\nkind: Gateway, name: edge, selector {app: b}",
    fix="Give one of them another name, or make the selector match the Deployment's pods.",
)

_OUR_GROUPS = ("istio.io", "isthmus.dev")


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


@dataclass(frozen=True, slots=True)
class _Denied:
    """A new security document that cannot be read."""

    kind: str
    ref: Ref
    source: Source
    root: Node | None


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
        broken: list[_Denied] = []
        strays: list[Document] = []
        for document in documents:
            kind = _kind_of(document, report)
            if kind is None:
                if _meant_for_us(document):
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
                broken.append(_Denied(kind.name, document.ref, document.source, document.root))
        broken.extend(_hold_back(strays, good, resources, report))
        mesh, applied = self._fold.fold(resources)
        if _revert(applied, resources, good, report):
            mesh, _ = self._fold.fold(resources)
        report.extend(applied)
        given = {document.ref for document in documents} if unparsed else set()
        for unread in unparsed:
            kind = next((kind for kind in KINDS if kind.security and kind.name == unread.kind), None)
            ref = Ref(unread.kind, unread.namespace, unread.name)
            if kind is not None and ref not in given:
                broken.append(_Denied(kind.name, ref, unread.source, unread.root))
        mesh = _deny_broken(mesh, broken, report)
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


def _revert(
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


def _hold_back(
    strays: Sequence[Document],
    good: Mapping[Ref, Resource[Any]],
    resources: Mapping[str, list[Resource[Any]]],
    report: Report,
) -> Iterator[_Denied]:
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
        if _seems_security(document) and (document.ref.namespace, document.ref.name) not in held:
            yield _Denied(document.ref.kind, document.ref, document.source, document.root)


_BY_NAME = {kind.name: kind for kind in KINDS}
_GROUPS = tuple({version.rpartition("/")[0] for kind in KINDS for version in kind.api_versions} - {""})
_NAMES = tuple(kind.name for kind in KINDS) + tuple(name for names in LATER_KINDS.values() for name in names)
_ALIKE = 0.85


def _close(written: str, known: Sequence[str], cutoff: float = _ALIKE) -> str | None:
    return next(iter(difflib.get_close_matches(written, known, 1, cutoff)), None)


def _group(document: Document) -> str:
    return document.api_version.rpartition("/")[0]


def _meant_for_us(document: Document) -> bool:
    """Whether a document without a kind that we know was probably to have one."""
    group, name = _group(document), document.ref.kind
    if name in LATER_KINDS.get(group, ()):
        return False
    return group.endswith(_OUR_GROUPS) or (_close(group, _GROUPS) is not None and _close(name, _NAMES) is not None)


def _seems_security(document: Document) -> bool:
    kind = _close(document.ref.kind, _NAMES)
    return _close(_group(document), _GROUPS) == "security.istio.io" or any(
        known.security for known in KINDS if known.name == kind
    )


def _kind_of(document: Document, report: Report) -> AnyKind | None:
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
    elif _meant_for_us(document):
        close = _close(group, _GROUPS) if group not in _GROUPS else _close(name, _NAMES, 0.6)
        hint = f' (did you mean "{close}"?)' if close else ""
        report.add(UNKNOWN_KIND, place, kind=name, group=group, hint=hint)
    else:
        report.add(FOREIGN_KIND, place, kind=name, version=version)
    return None


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


def _deny_broken(mesh: Mesh, broken: Sequence[_Denied], report: Report) -> Mesh:
    denied = []
    for one in broken:
        scope = _broken_scope(one, mesh.settings.root_namespace)
        denied.append(Broken(scope, Origin(one.ref, one.source)))
        what = "the workloads it selects are" if scope.labels else f"namespace {scope.namespace or '(every)'} is"
        report.add(DENIED_AS_BROKEN, Place(one.source, one.ref), kind=one.kind, what=what)
    return replace(mesh, policies=replace(mesh.policies, broken=tuple(denied)))


def _broken_scope(one: _Denied, root_namespace: str) -> Scope:
    if one.root is None:
        return Scope(None if one.ref.namespace == root_namespace else one.ref.namespace)
    return broken_scope(one.root, one.ref.namespace, root_namespace)


def assign_proxies(mesh: Mesh, report: Report) -> Mesh:
    """Which Envoys there must be: one per gateway Deployment or lone Gateway, one per workload of this machine."""
    trust_domain = mesh.settings.trust_domain
    gateways: list[Proxy] = []
    for deployment in mesh.deployments:
        if any(labels_match(dict(gateway.selector), deployment.labels) for gateway in mesh.gateways):
            identity = Identity(trust_domain, deployment.namespace, deployment.service_account)
            gateways.append(
                Proxy(
                    Role.GATEWAY, deployment.name, deployment.namespace, deployment.labels, identity, deployment.origin
                )
            )
    for gateway in mesh.gateways:
        if not any(labels_match(dict(gateway.selector), proxy.labels) for proxy in gateways):
            identity = Identity(trust_domain, gateway.namespace, gateway.name)
            labels = dict(gateway.selector)
            proxy = Proxy(Role.GATEWAY, gateway.name, gateway.namespace, labels, identity, gateway.origin)
            other = next((known for known in gateways if known.id == proxy.id), None)
            if other is not None:
                report.add(
                    SAME_PROXY, Place(gateway.origin.source, gateway.origin.ref), id=proxy.id, other=other.origin
                )
                continue
            gateways.append(proxy)
    sidecars = [
        Proxy(
            Role.SIDECAR,
            workload.name,
            workload.namespace,
            workload.labels,
            Identity(trust_domain, workload.namespace, workload.service_account),
            workload.origin,
            workload.node,
        )
        for workload in mesh.workloads
        if workload.placement is not Placement.REMOTE
    ]
    return replace(mesh, proxies=(*gateways, *sidecars))
