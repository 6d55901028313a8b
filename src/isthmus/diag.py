"""What the user wrote wrong: codes, places and the report that collects them.

A fault of a manifest is a value (:class:`Diagnostic`), never an exception: one bad document does not stop the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol


class Severity(IntEnum):
    """How bad a finding is; the higher, the worse."""

    INFO = 1
    WARNING = 2
    ERROR = 3

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """A place in a file. ``line`` and ``column`` count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """The name of a resource: what ``kind/namespace/name`` means to the user."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where a value of the model, or a resource built for Envoy, comes from."""

    ref: Ref
    source: Source

    def __str__(self) -> str:
        return f"{self.ref} ({self.source})"


class Located(Protocol):
    """Anything that knows its place: a Node of a manifest, above all."""

    @property
    def source(self) -> Source: ...
    @property
    def ref(self) -> Ref | None: ...
    @property
    def path(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Place:
    """A :class:`Located` for findings that no Node carries (a whole file, a whole resource)."""

    source: Source
    ref: Ref | None = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of finding, with the text of its page in ``docs/reference/codes``.

    ``template`` is filled by :meth:`Report.add` with named arguments. An ``id`` is never used again for another
    finding; where Istio has a code for the same thing, ours is Istio's (``IST0101``).
    """

    id: str
    severity: Severity
    title: str
    template: str
    what: str
    why: str
    example: str
    fix: str
    stops: bool = True
    """Whether an error of this code ends a first start: a reference that does not resolve spares the rest."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding at one place."""

    code: Code
    severity: Severity
    source: Source
    ref: Ref | None
    path: str
    message: str

    def __str__(self) -> str:
        where = " ".join(str(part) for part in (self.ref, self.path) if part)
        return f"{self.source}: {self.severity.word} {self.code.id} {where}{': ' if where else ''}{self.message}"

    def as_json(self) -> dict[str, object]:
        """JSON values; the shape is public (docs/reference/json.md)."""
        ref = self.ref
        return {
            "code": self.code.id,
            "severity": self.severity.word,
            "file": self.source.file,
            "line": self.source.line,
            "column": self.source.column,
            "resource": None if ref is None else {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name},
            "path": self.path or None,
            "message": self.message,
        }


@dataclass(slots=True)
class Report:
    """Collects findings; the same finding at the same place counts once."""

    _found: dict[Diagnostic, None] = field(default_factory=dict)

    def add(self, code: Code, at: Located, *, severity: Severity | None = None, **args: object) -> None:
        message = code.template.format(**args)
        found = Diagnostic(code, severity or code.severity, at.source, at.ref, at.path, message)
        self._found.setdefault(found)

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        self._found.update(dict.fromkeys(diagnostics))

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(sorted(self._found, key=lambda d: (d.source, -d.severity, d.code.id, d.message)))

    def __len__(self) -> int:
        return len(self._found)

    def at_least(self, severity: Severity) -> tuple[Diagnostic, ...]:
        return tuple(found for found in self if found.severity >= severity)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return self.at_least(Severity.ERROR)
