"""What a pure function reads of a Mesh, so that its result can be kept until an answer changes.

Keys chosen by hand are how caches go stale: one forgotten input, and a proxy keeps an old policy. Here nobody chooses.
A function gets a *view* of a Mesh (a World, a Proxy); whatever it asks of it is noted as a :class:`Question` with its
answer. While all answers stay the same, the function would ask the same questions and come to the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum, auto
from functools import partial
from operator import is_
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")

Subjects = Mapping[str, Any]
"""What questions are about, by name: ``mesh``, ``world``, ``proxy``."""


class Way(Enum):
    """How a question is put to what stands at its path."""

    VALUE = auto()
    """The value itself."""
    CALL = auto()
    """A method's result; the arguments are plain values."""
    ENTRY = auto()
    """One entry of a mapping."""
    WHOLE = auto()
    """All of a mapping, in its order."""


ABSENT = object()
"""The answer for an entry that a mapping does not have."""


class Question:
    """One thing that can be asked of one subject. Compared by identity: see :meth:`Questions.question`."""

    __slots__ = ("answer", "arguments", "asked_in", "path", "subject", "way")

    def __init__(self, subject: str, path: tuple[str, ...], way: Way, arguments: tuple[Any, ...]) -> None:
        self.subject = subject
        self.path = path
        self.way = way
        self.arguments = arguments
        self.asked_in = -1
        self.answer: Any = None

    def put(self, subjects: Subjects) -> Any:
        """The answer, now."""
        found = subjects[self.subject]
        for name in self.path:
            found = getattr(found, name)
        if self.way is Way.CALL:
            return found(*self.arguments)
        if self.way is Way.ENTRY:
            return found.get(self.arguments[0], ABSENT)
        return found

    def __repr__(self) -> str:
        return f"{self.subject}.{'.'.join(self.path)} {self.way.name} {self.arguments!r}"


class Questions:
    """The subjects as they are in one turn, and what was asked of them; a turn asks no question twice."""

    def __init__(self) -> None:
        self.turn = 0
        self.subjects: Subjects = {}
        self._known: dict[object, Question] = {}

    def begin(self, subjects: Subjects) -> None:
        """A new turn: every answer has to be asked for anew."""
        self.turn += 1
        self.subjects = subjects

    def question(self, subject: str, path: tuple[str, ...], way: Way, arguments: tuple[Any, ...]) -> Question:
        """The one Question of these words. It holds its arguments, so that their identities stay theirs."""
        # A mapping finds its entries by equality.
        key = (subject, path, way, *(arguments if way is Way.ENTRY else map(identity, arguments)))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Question(subject, path, way, arguments)
        return found

    def answer(self, question: Question) -> Any:
        """Today's answer; the very object of the last one while it is the same."""
        if question.asked_in != self.turn:
            question.asked_in = self.turn
            try:
                now = question.put(self.subjects)
            except Exception:
                # Arguments of an earlier turn may mean nothing any more; who asked with them asks anew.
                now = object()
            if not same(now, question.answer):
                question.answer = now
        return question.answer

    def ask(self, question: Question) -> Any:
        """As :meth:`answer`, for who asks now and not for a check: a fault of the subject's is the asker's."""
        if question.asked_in != self.turn:
            now = question.put(self.subjects)
            question.asked_in = self.turn
            if not same(now, question.answer):
                question.answer = now
        return question.answer

    @property
    def asked(self) -> tuple[tuple[Question, Any], ...]:
        """Every question, with its last answer."""
        return tuple((question, question.answer) for question in self._known.values())

    def forget_unasked(self) -> None:
        """Drop what this turn did not ask."""
        self._known = {key: question for key, question in self._known.items() if question.asked_in == self.turn}


_PLAIN = frozenset((str, int, type(None), frozenset))


def identity(value: object) -> object:
    """What stands for an argument in a key: a plain value for itself, anything else for this very object."""
    if type(value) in _PLAIN:
        return value
    if type(value) is tuple:
        return tuple(map(identity, value))
    return _Object, id(value)


class _Object:
    """Tells an object's identity from a number of the same value."""


def same(one: Any, other: Any) -> bool:
    """Whether nobody could tell ``one`` from ``other``: equal, of the same types, and in the same order throughout.

    Equality is not enough: dicts of another order are equal, and so are 1, 1.0 and True. Values without an equality of
    their own (a Resource, a Node) are the same only if they are identical.
    """
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is tuple or kind is list:
        return len(one) == len(other) and (all(map(is_, one, other)) or all(map(same, one, other)))
    if isinstance(one, Mapping):
        if list(one) != list(other):
            return False
        ours, theirs = list(one.values()), list(other.values())
        return all(map(is_, ours, theirs)) or all(map(same, ours, theirs))
    names = _field_names(kind)
    if names is not None:
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    return bool(one == other)


class Made:
    """What knows best how to be made of the objects of the last time."""

    __slots__ = ()

    def made_of(self, last: Any) -> object:
        return self


def keep(now: T, last: T) -> T:
    """``now``, made of the objects of ``last`` as far as they are the :func:`same`."""
    if same(now, last):
        return last
    kind = type(now)
    if kind is not type(last):
        return now
    if isinstance(now, tuple) and isinstance(last, tuple):
        return cast(T, _keep_elements(now, last))
    if isinstance(now, dict) and isinstance(last, dict):
        kept = {key: keep(value, last[key]) if key in last else value for key, value in now.items()}
        return now if all(map(is_, kept.values(), now.values())) else cast(T, kept)
    if isinstance(now, Made) and isinstance(last, Made):
        return cast(T, now.made_of(last))
    if isinstance(now, Parts):
        names = _field_names(kind) or ()
        return kind(**{name: keep(getattr(now, name), getattr(last, name)) for name in names})
    return now


def _keep_elements(now: tuple[Any, ...], last: tuple[Any, ...]) -> tuple[Any, ...]:
    """Elements are known again by their place or, since one more at the front moves all, by where they come from."""
    kept = list(now)
    moved = []
    for position, element in enumerate(now):
        if position < len(last) and same(element, last[position]):
            kept[position] = last[position]
        else:
            moved.append(position)
    if len(moved) > 1 or len(now) != len(last):
        known: dict[object, list[Any]] = {}
        for element in last:
            known.setdefault(_origin(element), []).append(element)
        for position in moved:
            element = now[position]
            candidates = known.get(_origin(element), ()) if _origin(element) is not None else ()
            kept[position] = next((before for before in candidates if same(element, before)), element)
    return now if all(map(is_, kept, now)) else tuple(kept)


def _origin(element: Any) -> object:
    return getattr(element, "origin", None)


_FIELDS: dict[type, tuple[str, ...] | None] = {}


def _field_names(kind: type) -> tuple[str, ...] | None:
    """The fields of a dataclass that is compared by its fields; None: it is no such."""
    if kind not in _FIELDS:
        by_fields = is_dataclass(kind) and kind.__eq__ is not object.__eq__
        _FIELDS[kind] = tuple(field.name for field in fields(kind)) if by_fields else None
    return _FIELDS[kind]


class Reader(Protocol):
    """Whoever notes what is read."""

    def read(self, subject: str, path: tuple[str, ...], way: Way, arguments: tuple[Any, ...] = ()) -> Any: ...


class Parts:
    """A value of a subject that is looked into: what is read of it is noted part by part, not as a whole."""

    __slots__ = ()


class View:
    """Looks like the subject, and notes what is asked of it."""

    __slots__ = ("_path", "_reader", "_subject", "_target")

    def __init__(self, target: Any, subject: str, reader: Reader, path: tuple[str, ...] = ()) -> None:
        self._target = target
        self._subject = subject
        self._reader = reader
        self._path = path

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        path = (*self._path, name)
        if callable(found):
            return partial(self._call, path, found)
        if isinstance(found, Mapping):
            return MappingView(found, self._subject, self._reader, path)
        if isinstance(found, Parts):
            return View(found, self._subject, self._reader, path)
        return self._reader.read(self._subject, path, Way.VALUE)

    def _call(self, path: tuple[str, ...], method: Callable[..., Any], *arguments: Any) -> Any:
        if any(isinstance(argument, View | MappingView) for argument in arguments):
            # What the method reads of its argument is the argument's: it runs in sight.
            return getattr(type(self._target), path[-1])(self, *arguments)
        return self._reader.read(self._subject, path, Way.CALL, arguments)


class MappingView(Mapping[Any, Any]):
    """A mapping of a subject; one entry is a question, and so is all of it."""

    __slots__ = ("_path", "_reader", "_subject", "_target")

    def __init__(self, target: Mapping[Any, Any], subject: str, reader: Reader, path: tuple[str, ...]) -> None:
        self._target = target
        self._subject = subject
        self._reader = reader
        self._path = path

    def __getitem__(self, key: Any) -> Any:
        found = self._reader.read(self._subject, self._path, Way.ENTRY, (key,))
        if found is ABSENT:
            raise KeyError(key)
        return found

    def get(self, key: Any, default: Any = None) -> Any:
        found = self._reader.read(self._subject, self._path, Way.ENTRY, (key,))
        return default if found is ABSENT else found

    def __contains__(self, key: Any) -> bool:
        return self._reader.read(self._subject, self._path, Way.ENTRY, (key,)) is not ABSENT

    def _whole(self) -> Mapping[Any, Any]:
        found: Mapping[Any, Any] = self._reader.read(self._subject, self._path, Way.WHOLE)
        return found

    def __iter__(self) -> Iterator[Any]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())

    def keys(self) -> Any:
        return self._whole().keys()

    def values(self) -> Any:
        return self._whole().values()

    def items(self) -> Any:
        return self._whole().items()

    def __eq__(self, other: object) -> bool:
        return self._whole() == other

    __hash__ = None  # type: ignore[assignment]
