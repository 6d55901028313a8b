"""What is kept of translations: each part with what it read, so that a change costs what it touches.

A part is a function of a Context. It is run with views (``model/reading.py``), and its result holds for every proxy,
and for every later Mesh and World, that give the same answers: proxies whose views are equal share the very same bytes.
Nothing here knows what a part is about, so that no key can be forgotten. See docs/decisions/0019-incremental.md.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any, cast

from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Proxy
from isthmus.model.reading import Question, Questions, Subjects, View, Way, identity
from isthmus.model.reading import keep as as_before
from isthmus.model.world import World
from isthmus.xds.context import Context

_PROXY = "proxy"
Function = Callable[..., Any]


class _Kept:
    """A part's result, what it read of the Mesh and the World, the parts it was made of, what it asked the proxy."""

    __slots__ = ("answers", "arguments", "asked", "aspects", "before", "function", "held_in", "parts", "result")

    def __init__(self, function: Function, arguments: tuple[Any, ...], result: Any, reading: _Reading) -> None:
        self.function = function
        self.arguments = arguments
        self.result = result
        self.asked = tuple(reading.reads)
        self.before = tuple(reading.reads.values())
        self.answers = tuple(reading.answers.items())
        self.parts = list(reading.parts)
        self.aspects = tuple(reading.aspects)
        self.held_in = reading.memory.turn


class _Branch:
    """What a part asks the proxy next, and what becomes of it by answer."""

    __slots__ = ("question", "ways")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.ways: dict[object, _Branch | _Kept] = {}


class _Reading:
    """One run of a part."""

    __slots__ = ("answers", "aspects", "memory", "parts", "proxy", "reads")

    def __init__(self, memory: Memory, proxy: Proxy) -> None:
        self.memory = memory
        self.proxy = proxy
        self.reads: dict[Question, Any] = {}
        self.answers: dict[Question, object] = {}
        self.parts: dict[_Kept, None] = {}
        self.aspects: list[Any] = []
        """Held, for answers are known again by the identities of what they are made of."""

    def read(self, subject: str, path: tuple[str, ...], way: Way, arguments: tuple[Any, ...] = ()) -> Any:
        if subject == _PROXY:
            question = self.memory.of_proxies.question(subject, path, way, arguments)
            answer = question.put({_PROXY: self.proxy})
            self.answers[question] = _key(question, answer)
            return answer
        questions = self.memory.questions
        question = questions.question(subject, path, way, arguments)
        answer = self.reads[question] = questions.ask(question)
        return answer

    def recall(self, function: Function, arguments: tuple[Any, ...]) -> Any:
        """Another part, on which this one then rests."""
        kept = self.memory.keep(function, self.proxy, arguments)
        self.parts[kept] = None
        self.answers.update(kept.answers)
        self.aspects += kept.aspects
        return kept.result

    def aspect(self, function: Function) -> Any:
        """A question to the proxy that another part answers."""
        memory = self.memory
        question = memory.aspects.get(function)
        if question is None:
            question = memory.aspects[function] = _Aspect(memory, function)
        answer = question.put({_PROXY: self.proxy})
        self.answers[question] = _key(question, answer)
        self.aspects.append(answer)
        return answer


class _Aspect(Question):
    """What a part says of a proxy."""

    __slots__ = ("function", "memory")

    def __init__(self, memory: Memory, function: Function) -> None:
        super().__init__(_PROXY, (function.__name__,), Way.CALL, ())
        self.memory = memory
        self.function = function

    def put(self, subjects: Subjects) -> Any:
        return self.memory.keep(self.function, subjects[_PROXY], ()).result


def _key(question: Question, answer: Any) -> object:
    """An answer of a proxy's as the key of a branch."""
    if isinstance(question, _Aspect):
        return identity(answer)
    return tuple(answer.items()) if question.way is Way.WHOLE else answer


class Memory:
    """Lives as long as the control plane. ``begin`` each turn, then :meth:`recall`, then ``end``."""

    def __init__(self) -> None:
        self.questions = Questions()
        self.of_proxies = Questions()
        self.aspects: dict[Function, _Aspect] = {}
        self.runs = 0
        """How many parts were really made: what a change costs."""
        self._shared: dict[object, _Branch | _Kept] = {}
        self._of_one: dict[tuple[str, object], _Kept] = {}
        """By a proxy's id: parts that asked for it."""

    @property
    def turn(self) -> int:
        return self.questions.turn

    def begin(self, mesh: Mesh, world: World) -> None:
        """What is true from now on."""
        self.questions.begin({"mesh": mesh, "world": world})

    def end(self) -> None:
        """Forget what this turn had no use for."""
        self._shared = {key: left for key, node in self._shared.items() if (left := self._held(node)) is not None}
        self._of_one = {key: kept for key, kept in self._of_one.items() if kept.held_in == self.turn}
        self.questions.forget_unasked()

    def recall(self, function: Callable[[Context], Any], proxy: Proxy) -> Any:
        """The result of ``function`` for ``proxy``: kept, or made now."""
        return self.keep(function, proxy, ()).result

    def keep(self, function: Function, proxy: Proxy, arguments: tuple[Any, ...]) -> _Kept:
        key = (function, *map(identity, arguments))
        node = self._find(key, proxy)
        if node is not None and self._holds(node, proxy):
            return node
        kept = self._run(function, proxy, arguments)
        if node is not None:
            kept.result = as_before(kept.result, node.result)
        self._put(key, proxy, kept)
        return kept

    def _run(self, function: Function, proxy: Proxy, arguments: tuple[Any, ...]) -> _Kept:
        self.runs += 1
        reading = _Reading(self, proxy)
        subjects = {**self.questions.subjects, _PROXY: proxy}
        views = {name: cast(Any, View(subject, name, reading)) for name, subject in subjects.items()}
        return _Kept(function, arguments, function(Context(**views, recaller=reading), *arguments), reading)

    def _find(self, key: object, proxy: Proxy) -> _Kept | None:
        subjects = {_PROXY: proxy}
        own = self._of_one.get((proxy.id, key))
        if own is not None:
            known = all(_key(question, question.put(subjects)) == before for question, before in own.answers)
            return own if known else None
        node = self._shared.get(key)
        while isinstance(node, _Branch):
            node = node.ways.get(_key(node.question, node.question.put(subjects)))
        return node

    def _put(self, key: object, proxy: Proxy, kept: _Kept) -> None:
        if any(question.path == ("id",) for question, _ in kept.answers):
            # No other proxy can have the same answers.
            self._of_one[proxy.id, key] = kept
            return
        self._of_one.pop((proxy.id, key), None)
        where: dict[object, _Branch | _Kept] = self._shared
        for question, answer in kept.answers:
            node = where.get(key)
            if not isinstance(node, _Branch) or node.question is not question:
                node = where[key] = _Branch(question)
            where, key = node.ways, answer
        where[key] = kept

    def _holds(self, kept: _Kept, proxy: Proxy) -> bool:
        """Whether ``kept`` is what a run would give now. ``proxy`` is one that gives the same answers."""
        if kept.held_in == self.turn:
            return True
        if not all(map(is_, map(self.questions.answer, kept.asked), kept.before)):
            return False
        for position, part in enumerate(kept.parts):
            if not self._holds(part, proxy):
                again = self.keep(part.function, proxy, part.arguments)
                # One that asks the proxy more than before tells apart proxies that shared this result.
                if again.result is not part.result or not set(again.answers) <= set(kept.answers):
                    return False
                kept.parts[position] = again
        kept.held_in = self.turn
        return True

    def _held(self, node: _Branch | _Kept) -> _Branch | _Kept | None:
        if isinstance(node, _Kept):
            return node if node.held_in == self.turn else None
        node.ways = {answer: left for answer, way in node.ways.items() if (left := self._held(way)) is not None}
        return node if node.ways else None
