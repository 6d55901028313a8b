"""Fields that cannot be enforced yet, and what becomes of a manifest that sets them."""

from __future__ import annotations

from isthmus.config.decode import NOT_YET, NOT_YET_NARROWS, Field, Reader, Support, Unreadable, list_of, noted, text
from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.conversion import converted

REFUSED = Code(
    "ISM2101",
    Severity.ERROR,
    "Known field without which the rest means something else, not supported yet",
    'the field "{name}" is not supported yet, and without it {instead}: refused, not ignored',
    what="Istio knows this field; this version of Isthmus does not act on it, and what stands beside it depends on it.",
    why="What is left would do something else than what you wrote: an abort that aborts nothing, for one.",
    example="fault:\n  abort: {http2Error: INTERNAL_ERROR, percentage: {value: 100}}",
    fix="Take the whole entry out, or write it with fields that are supported.",
)


def refused(name: str, instead: str) -> Field:
    """Known to Istio, not supported yet, and its neighbours mean something else without it: an error."""

    def read(node: Node, report: Report) -> None:
        report.add(REFUSED, node, name=name, instead=instead)
        raise Unreadable

    return Field(name, Reader("nothing yet", read), support=Support.NARROWS, note=instead)


def warn_unsupported(node: Node, name: str, report: Report) -> None:
    """Say that a value (not a whole field) has no effect yet."""
    report.add(NOT_YET, node, name=name)


def export_to(name: str) -> Field:
    """A field of namespaces to which something is shown: only everywhere, its default, is possible yet."""

    def everywhere(namespaces: tuple[str, ...], node: Node, report: Report) -> None:
        if namespaces not in ((), ("*",)):
            report.add(NOT_YET_NARROWS, node, name=name)
            raise Unreadable

    note = 'only its default, ["*"], is taken'
    return Field(name, converted(list_of(text), everywhere), support=Support.NARROWS, note=note)


EXPORT_TO = export_to("exportTo")

ENVELOPE = (
    noted("apiVersion", "the document's own"),
    noted("kind", "the document's own"),
    noted("metadata", "read for every kind"),
    noted("status", "written by Kubernetes"),
)
"""The fields around those of a whole document (Secret, ConfigMap, Namespace, ServiceAccount)."""
