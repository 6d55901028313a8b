"""Istio's WorkloadSelector, the scope that it makes with a namespace, and whether anything is in that scope."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import is_
from typing import Any

from isthmus.config.decode import Reader, Unreadable, fail, map_of, optional, record, text
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Place, Report, Severity
from isthmus.kinds.shape.conversion import converted
from isthmus.model.mesh import Mesh
from isthmus.model.selector import Scope

EMPTY_SELECTOR = Code(
    "ISM2201",
    Severity.WARNING,
    "Selector without labels",
    "a selector without labels selects every workload, as if it were not there",
    what="The resource has a selector that names no label.",
    why="It looks narrow and is as wide as can be.",
    example="selector:\n  matchLabels: {}",
    fix="Name the labels, or take the selector out.",
)
NO_MATCHING_WORKLOADS = Code(
    "IST0127",
    Severity.WARNING,
    "No matching workloads",
    "No matching workloads for this resource {wanted}",
    what="No workload, gateway or Deployment of the manifests is in the scope of this resource.",
    why="A policy that holds nowhere protects nothing; often a label or a namespace is misspelt.",
    example="selector:\n  matchLabels: {app: order}   # the workload says app: orders",
    fix="Correct the labels or the namespace, or add the workload.",
)

_MAX_VALUE_LENGTH = 63


@dataclass(frozen=True, slots=True)
class Selector:
    """``matchLabels``: all of them must be there. Without any, everything is selected."""

    at: Node
    match_labels: Mapping[str, str]


def _plain_labels(labels: dict[str, str], node: Node, report: Report) -> dict[str, str]:
    """Labels by the rules of Istio's schema of ``istio.type.v1beta1.WorkloadSelector``."""
    broken = False
    for key, value in labels.items():
        if not key:
            fail(report, node, "a label needs a name")
        elif "*" in key or "*" in value:
            fail(report, node.at(key), f'"{key}: {value}": labels are compared as they are, a wildcard is not possible')
        elif len(value) > _MAX_VALUE_LENGTH:
            fail(report, node.at(key), f"the value of a label has at most {_MAX_VALUE_LENGTH} characters")
        else:
            continue
        broken = True
    if broken:
        raise Unreadable
    return labels


def _warn_if_empty(selector: Selector, node: Node, report: Report) -> Selector:
    if not selector.match_labels:
        report.add(EMPTY_SELECTOR, node)
    return selector


match_labels: Reader[dict[str, str]] = converted(map_of(text), _plain_labels)
selector: Reader[Selector] = converted(record(Selector, optional("matchLabels", match_labels, {})), _warn_if_empty)


def scope(namespace: str, selected: Selector | None, root_namespace: str) -> Scope:
    """What a policy of ``namespace`` speaks of; one of the root namespace speaks of every namespace."""
    labels = tuple(sorted(selected.match_labels.items())) if selected is not None else ()
    return Scope(None if namespace == root_namespace else namespace, labels)


def broken_scope(root: Node, namespace: str, root_namespace: str) -> Scope:
    """The scope of a security document (``root``: all of it) that could not be read, never narrower than was meant.

    Its labels if the selector alone can be read, else all of its namespace.
    """
    written = root.get("spec", "selector")
    if written is None or written.value is None:
        return scope(namespace, None, root_namespace)
    try:
        return scope(namespace, selector.read(written, Report()), root_namespace)
    except Unreadable:
        return scope(namespace, None, root_namespace)


Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Attachable:
    """The label sets of everything that a policy can attach to, each with its namespace; replicas count once."""

    targets: frozenset[tuple[str, Labels]]
    by_label: Mapping[tuple[str, str], tuple[tuple[str, Labels], ...]]
    namespaces: frozenset[str]

    @classmethod
    def of(cls, mesh: Mesh) -> Attachable:
        """Workloads, Deployments, and gateways, whose selector is the label set of a proxy that carries them."""
        known = _LAST.get(cls)
        if known is not None and all(map(is_, known[0], _parts(mesh))):
            return known[1]
        found = cls._of(mesh)
        _LAST[cls] = _parts(mesh), found
        return found

    @classmethod
    def _of(cls, mesh: Mesh) -> Attachable:
        targets: set[tuple[str, Labels]] = set()
        targets.update((workload.namespace, frozenset(workload.labels.items())) for workload in mesh.workloads)
        targets.update((deployment.namespace, frozenset(deployment.labels.items())) for deployment in mesh.deployments)
        targets.update((gateway.namespace, frozenset(gateway.selector)) for gateway in mesh.gateways)
        by_label: dict[tuple[str, str], list[tuple[str, Labels]]] = {}
        for target in targets:
            for label in target[1]:
                by_label.setdefault(label, []).append(target)
        return cls(
            frozenset(targets),
            {label: tuple(sorted(found, key=_order)) for label, found in by_label.items()},
            frozenset(namespace for namespace, _ in targets),
        )

    def within(self, wanted: Scope) -> Iterator[tuple[str, Labels]]:
        """The (namespace, labels) in scope ``wanted``, in a stable order."""
        needed = frozenset(wanted.labels)
        some = self.by_label.get(wanted.labels[0], ()) if wanted.labels else sorted(self.targets, key=_order)
        for namespace, labels in some:
            if wanted.namespace in (None, namespace) and needed <= labels:
                yield namespace, labels

    def holds(self, wanted: Scope) -> bool:
        """Whether anything is in scope ``wanted``; the whole mesh always counts as something."""
        if not wanted.labels:
            return wanted.namespace is None or wanted.namespace in self.namespaces
        return next(self.within(wanted), None) is not None


_LAST: dict[type, tuple[tuple[object, ...], Attachable]] = {}
"""The last one, and what it was made of: every kind of policy asks for the same."""


def _parts(mesh: Mesh) -> tuple[object, ...]:
    return mesh.workloads, mesh.deployments, mesh.gateways


def _order(target: tuple[str, Labels]) -> tuple[str, list[tuple[str, str]]]:
    return target[0], sorted(target[1])


def warn_unattached(
    resource: Resource[Any], wanted: Scope, selected: Selector | None, attachable: Attachable, report: Report
) -> None:
    """IST0127 at the selector (or the resource) if nothing is in scope ``wanted``."""
    if attachable.holds(wanted):
        return
    where = "" if wanted.namespace is None else f' in namespace "{wanted.namespace}"'
    if not wanted.labels:
        report.add(NO_MATCHING_WORKLOADS, Place(resource.source, resource.ref), wanted=where.strip())
        return
    labels = ", ".join(f"{key}={value}" for key, value in wanted.labels)
    place = Place(resource.source, resource.ref) if selected is None else selected.at.at("matchLabels")
    report.add(NO_MATCHING_WORKLOADS, place, wanted=f"with the following labels: {labels}{where}")
