"""From a parsed tree to the documents in it: what every Kubernetes object has (apiVersion, kind, metadata)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from isthmus.config.decode import Unreadable, found, map_of, report_unknown, text
from isthmus.config.node import Node
from isthmus.config.resource import Document
from isthmus.diag import Code, Place, Ref, Report, Severity, Source

NOT_A_RESOURCE = Code(
    "ISM1004",
    Severity.ERROR,
    "Not a resource",
    "{problem}",
    what="A document has no apiVersion or no kind, or is not a mapping at all.",
    why="Only the two together say what a document is; without them it would have no effect.",
    example="kind: VirtualService   # no apiVersion\nmetadata:\n  name: web",
    fix="Add the field; if the file is no manifest, move it out of the folder.",
)
BAD_NAME = Code(
    "ISM1005",
    Severity.ERROR,
    "Missing or invalid name",
    "{problem}",
    what="A resource has no metadata.name, or its name or namespace is not one that Kubernetes takes.",
    why="Other resources, and people, refer to a resource by its name.",
    example="metadata:\n  name: Web_Shop",
    fix="Names are lower-case letters, digits, '-' and '.', up to 253; namespaces have no '.' and are up to 63 long.",
)
DUPLICATE_RESOURCE = Code(
    "ISM1006",
    Severity.ERROR,
    "Resource given twice",
    "{ref} is given already at {first}; this one is not used",
    what="Two documents have the same kind, namespace and name.",
    why="Which of them is meant cannot be told. The first is used, in the order of loading.",
    example="kind: Gateway\nmetadata: {name: edge}\n---\nkind: Gateway\nmetadata: {name: edge}",
    fix="Give one of them another name, or take it out.",
)

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
# Kubernetes' ObjectMeta (meta/v1): what a server fills in is of no consequence in a manifest, but no misspelling.
_METADATA: Mapping[str, None] = dict.fromkeys(
    (
        *("name", "generateName", "namespace", "labels", "annotations", "uid", "resourceVersion", "generation"),
        *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers"),
        *("managedFields", "selfLink", "clusterName"),
    )
)
_strings = map_of(text)


@dataclass(frozen=True, slots=True, eq=False)
class Broken:
    """A document that cannot be used, and what can still be told of it, for whoever must fail closed.

    Texts that could not be found are empty, but ``namespace`` is then the default one. Of a document that is not YAML
    they are guesses from its lines, and ``root`` is None.
    """

    source: Source
    api_version: str
    kind: str
    namespace: str
    name: str
    root: Node | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """What one piece of text gave."""

    documents: tuple[Document, ...] = ()
    broken: tuple[Broken, ...] = ()


def read(root: Node, digest: str, namespace: str, report: Report) -> Read:
    """The document whose tree is ``root``, or those of a ``kind: List``; faults go to ``report``.

    ``namespace`` is for those that name none. Every node of a document's tree has the document's Ref, and its path
    from the document's root. ``digest`` is of the text; an item of a List gets one of its content.
    """
    api_version, kind = root.get("apiVersion"), root.get("kind")
    if api_version is not None and kind is not None and (api_version.value, kind.value) == ("v1", "List"):
        items = root.at("items")
        if items is not root and not items.is_sequence and items.value is not None:
            report.add(NOT_A_RESOURCE, items, problem=f"the items of a List are a list, found {found(items)}")
            return Read(broken=(_broken(root, namespace),))
        parts = [
            read(item.moved("", None), _content_digest(item), namespace, report) for item in root.at("items").items
        ]
        return Read(tuple(d for part in parts for d in part.documents), tuple(b for part in parts for b in part.broken))
    try:
        return Read((_document(root, digest, namespace, report),))
    except Unreadable:
        return Read(broken=(_broken(root, namespace),))


def _content_digest(node: Node) -> str:
    return sha256(json.dumps(node.plain(), sort_keys=True).encode()).hexdigest()


def _document(root: Node, digest: str, namespace: str, report: Report) -> Document:
    if not root.is_mapping:
        report.add(
            NOT_A_RESOURCE, root, problem=f"a resource is a mapping with apiVersion and kind, found {found(root)}"
        )
        raise Unreadable
    if root.get("apiVersion") is None and root.get("kind") is None and root.source.file.endswith(".json"):
        # Beside manifests lie other JSON files, such as key sets and our own ready file.
        report.add(NOT_A_RESOURCE, root, severity=Severity.WARNING, problem="neither apiVersion nor kind: no manifest")
        raise Unreadable
    for name in ("apiVersion", "kind"):
        if root.at(name).value in (None, "") or root.get(name) is None:
            report.add(NOT_A_RESOURCE, root, problem=f'the field "{name}" is missing')
            raise Unreadable
    api_version, kind = (text.read(root.at(name), report) for name in ("apiVersion", "kind"))
    ref = Ref(kind, _namespace(root, namespace, report), _name(root, api_version, report))
    root = root.moved("", ref)
    metadata = root.at("metadata")
    if report_unknown(metadata, _METADATA, report):
        raise Unreadable
    labels, annotations = (_text_map(metadata, name, report) for name in ("labels", "annotations"))
    return Document(api_version, ref, root.source, labels, annotations, root, digest)


def may_name(namespace: str, name: str) -> bool:
    """Whether a manifest of one of our kinds may be called so."""
    return _LABEL.fullmatch(namespace) is not None and len(name) <= 253 and _SUBDOMAIN.fullmatch(name) is not None


def _name(root: Node, api_version: str, report: Report) -> str:
    node = root.get("metadata", "name")
    if node is None or node.value in (None, ""):
        report.add(BAD_NAME, root.at("metadata"), problem="metadata.name is missing")
        raise Unreadable
    name = text.read(node, report)
    # RBAC's names ("system:node") need only be a segment of a URL's path.
    free = api_version.startswith("rbac.authorization.k8s.io/")
    if not free and (len(name) > 253 or not _SUBDOMAIN.fullmatch(name)):
        problem = f'"{name}" is not a name: lower-case letters, digits, "-" and ".", up to 253'
        report.add(BAD_NAME, node, problem=problem)
        raise Unreadable
    return name


def _namespace(root: Node, default: str, report: Report) -> str:
    node = root.get("metadata", "namespace")
    if node is None or node.value in (None, ""):
        return default
    namespace = text.read(node, report)
    if not _LABEL.fullmatch(namespace):
        report.add(
            BAD_NAME, node, problem=f'"{namespace}" is not a namespace: lower-case letters, digits, "-", up to 63'
        )
        raise Unreadable
    return namespace


def _text_map(metadata: Node, name: str, report: Report) -> Mapping[str, str]:
    node = metadata.get(name)
    return {} if node is None or node.value is None else _strings.read(node, report)


def _broken(root: Node, namespace: str) -> Broken:
    def told(*steps: str) -> str:
        node = root.get(*steps)
        return node.value if node is not None and isinstance(node.value, str) else ""

    return Broken(
        root.source,
        told("apiVersion"),
        told("kind"),
        told("metadata", "namespace") or namespace,
        told("metadata", "name"),
        root,
    )


def guess(written: str, source: Source, namespace: str) -> Broken:
    """What a document that is not YAML seems to be: the least indented line of each field that tells."""

    def least(field: str) -> str:
        lines = re.findall(rf'^([ \t{{"-]*){field}"?[ \t]*:[ \t]*["\']?([^\s"\',{{}}#]+)', written, re.MULTILINE)
        if not lines:
            # Flow style, as JSON and `metadata: {name: x, namespace: y}` have it.
            lines = re.findall(rf'()[{{,]\s*"?{field}"?\s*:\s*["\']?([^\s"\',{{}}#]+)', written)
        return str(min(lines, key=lambda line: len(line[0]), default=("", ""))[1])

    return Broken(source, least("apiVersion"), least("kind"), least("namespace") or namespace, least("name"))


def identity(document: Document) -> tuple[str, Ref]:
    """What makes two documents the same resource: the Ref and the API group, whatever the version."""
    group, slash, _ = document.api_version.rpartition("/")
    return (group if slash else "", document.ref)


def drop_duplicates(documents: Iterable[Document], report: Report) -> tuple[Document, ...]:
    """The first document of each resource; the others are reported."""
    first: dict[tuple[str, Ref], Document] = {}
    for document in documents:
        taken = first.setdefault(identity(document), document)
        if taken is not document:
            report.add(
                DUPLICATE_RESOURCE, Place(document.source, document.ref), ref=document.ref, first=str(taken.source)
            )
    return tuple(first.values())
