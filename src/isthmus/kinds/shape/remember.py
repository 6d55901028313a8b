"""What a kind makes of one resource, made once for as long as the resource and what was asked of the Mesh stay."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from isthmus.config.resource import Resource
from isthmus.diag import Diagnostic, Report
from isthmus.model.mesh import Mesh
from isthmus.model.reading import Question, Questions, View, Way, same

P = ParamSpec("P")
T = TypeVar("T")
_MESH = "mesh"
_Reads = tuple[tuple[Question, Any], ...]


class _Made:
    """A result, what it was made of, what the Mesh had answered on the way, and what there was to report."""

    __slots__ = ("found", "plain", "reads", "result")

    def __init__(self, result: Any, plain: tuple[Any, ...], reads: _Reads, found: tuple[Diagnostic, ...]) -> None:
        self.result = result
        self.plain = plain
        self.reads = reads
        self.found = found

    def holds(self, plain: tuple[Any, ...], mesh: Mesh | None) -> bool:
        subjects = {_MESH: mesh}
        return same(plain, self.plain) and all(same(question.put(subjects), answer) for question, answer in self.reads)


class _Reading:
    """One run: what it asks of the Mesh."""

    __slots__ = ("questions",)

    def __init__(self, mesh: Mesh | None) -> None:
        self.questions = Questions()
        self.questions.begin({_MESH: mesh})

    def read(self, subject: str, path: tuple[str, ...], way: Way, arguments: tuple[Any, ...] = ()) -> Any:
        return self.questions.ask(self.questions.question(subject, path, way, arguments))


def remembered(make: Callable[Concatenate[Resource[Any], P], T]) -> Callable[Concatenate[Resource[Any], P], T]:
    """Decorator for ``make(resource, ...)``, a pure function but for its findings.

    It runs again for another resource (a document that was edited, or stands on another line), for other arguments, or
    once the Mesh among them answers anything else than it did; findings are reported anew every time. ``make`` gets a
    view of the Mesh: it may ask what it likes, and neither keep the view nor ``replace`` it.
    """

    @wraps(make)
    def made(resource: Resource[Any], /, *arguments: P.args, **named: P.kwargs) -> T:
        assert not named, "positional arguments only"
        mesh = next((one for one in arguments if isinstance(one, Mesh)), None)
        plain = tuple(one for one in arguments if not isinstance(one, Mesh | Report))
        known = resource.made.get(make)
        if known is None or not known.holds(plain, mesh):
            known = resource.made[make] = _run(make, resource, arguments, plain, mesh)
        if known.found:
            next(one for one in arguments if isinstance(one, Report)).extend(known.found)
        result: T = known.result
        return result

    return made


def _run(
    make: Callable[..., Any],
    resource: Resource[Any],
    arguments: tuple[Any, ...],
    plain: tuple[Any, ...],
    mesh: Mesh | None,
) -> _Made:
    reading, found = _Reading(mesh), Report()
    stand_ins = {Mesh: View(mesh, _MESH, reading), Report: found}
    result = make(resource, *(stand_ins.get(type(one), one) for one in arguments))
    return _Made(result, plain, reading.questions.asked, tuple(found))
