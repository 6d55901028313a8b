from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from isthmus.model.reading import Parts, Question, Questions, View, Way, keep, same


@dataclass(frozen=True, slots=True)
class Leaf:
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """As a Node: the same only as itself."""

    name: str


@dataclass(frozen=True)
class Policies(Parts):
    peer: tuple[Leaf, ...] = ()
    request: tuple[Leaf, ...] = ()


@dataclass(frozen=True)
class Subject(Parts):
    services: Mapping[str, Leaf] = field(default_factory=dict)
    routes: tuple[Leaf, ...] = ()
    policies: Policies = Policies()
    name: str = "mesh"

    def named(self, name: str) -> tuple[Leaf, ...]:
        return tuple(leaf for leaf in self.routes if leaf.name == name)

    def routes_of(self, leaf: Leaf) -> tuple[Leaf, ...]:
        return tuple(each for each in self.routes if each.name == leaf.name)


class Noting:
    """Notes what is read of a subject, and answers as it is now."""

    def __init__(self, subject: Any) -> None:
        self.questions = Questions()
        self.questions.begin({"mesh": subject})
        self.view: Any = View(subject, "mesh", self)

    def read(self, subject: str, path: tuple[str, ...], way: Way, arguments: tuple[Any, ...] = ()) -> Any:
        return self.questions.ask(self.questions.question(subject, path, way, arguments))

    def stands(self, subject: Any) -> bool:
        """Whether all answers are as they were."""
        before = self.questions.asked
        self.questions.begin({"mesh": subject})
        return all(self.questions.answer(question) is answer for question, answer in before)


A, B = Leaf("a"), Leaf("b")


@pytest.mark.parametrize(
    ("read", "stays", "goes"),
    [
        (lambda view: view.services.get("a"), Subject({"a": A, "b": B}), Subject({"a": Leaf("a", {"x": "1"})})),
        (lambda view: "b" in view.services, Subject({"a": B}), Subject({"a": A, "b": B})),
        (lambda view: list(view.services), Subject({"a": A}, (A,)), Subject({"a": A, "b": B})),
        (lambda view: view.services.get("b", 7), Subject({"a": A}, (A,)), Subject({"b": B})),
        (lambda view: view.name, Subject({"b": B}), Subject({"a": A}, name="other")),
        (lambda view: view.policies.peer, Subject(policies=Policies(request=(A,))), Subject(policies=Policies((A,)))),
        (lambda view: view.named("b"), Subject(routes=(A,)), Subject(routes=(A, B))),
    ],
)
def test_only_what_was_asked_counts(read: Any, stays: Subject, goes: Subject) -> None:
    start = Subject({"a": A})
    noting = Noting(start)
    seen = read(noting.view)
    assert seen == read(start)
    assert noting.stands(start)
    assert noting.stands(stays)
    assert not noting.stands(goes)


def test_a_mapping_is_read_as_it_is() -> None:
    start = Subject({"a": A, "b": B})
    view = Noting(start).view.services
    assert (view["a"], list(view), len(view), dict(view)) == (A, ["a", "b"], 2, {"a": A, "b": B})
    assert (list(view.values()), list(view.items()), list(view.keys())) == ([A, B], [("a", A), ("b", B)], ["a", "b"])
    assert view == {"a": A, "b": B}
    with pytest.raises(KeyError):
        view["c"]


def test_the_order_of_a_mapping_counts() -> None:
    noting = Noting(Subject({"a": A, "b": B}))
    list(noting.view.services)
    assert not noting.stands(Subject({"b": B, "a": A}))


def test_a_method_that_is_given_a_view_is_run_in_sight() -> None:
    noting = Noting(Subject(routes=(A, B)))
    other = Noting(A)
    assert noting.view.routes_of(other.view) == (A,)
    assert other.stands(A)
    assert not other.stands(Leaf("b"))


def test_a_question_that_means_nothing_any_more_has_another_answer() -> None:
    class Strict(Subject):
        def index(self, leaf: Leaf) -> int:
            return self.routes.index(leaf)

    noting = Noting(Strict(routes=(A, B)))
    assert noting.view.index(B) == 1
    assert not noting.stands(Strict(routes=(A,)))
    with pytest.raises(ValueError):
        Noting(Strict()).view.index(A)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (Leaf("a", {"x": "1", "y": "2"}), Leaf("a", {"x": "1", "y": "2"}), True),
        (Leaf("a", {"x": "1", "y": "2"}), Leaf("a", {"y": "2", "x": "1"}), False),
        ((1, 2), (1, True), False),
        (1, 1.0, False),
        ([A], (A,), False),
        (Written("a"), Written("a"), False),
        ((Leaf("a"),), (Leaf("a"),), True),
        ({"a": [1]}, {"a": [1]}, True),
        (None, None, True),
    ],
)
def test_the_same_is_stricter_than_equal(one: object, other: object, alike: bool) -> None:
    assert same(one, other) is alike
    assert same(other, one) is alike
    assert same(one, one)


@dataclass(frozen=True, slots=True)
class Placed:
    origin: str
    value: int


def test_what_stays_is_the_very_object_of_the_last_time() -> None:
    def mesh(*placed: Placed) -> Subject:
        return Subject({"a": Leaf("a"), "b": Leaf("b")}, placed)  # type: ignore[arg-type]

    last = mesh(Placed("x", 1), Placed("y", 2))
    assert keep(mesh(Placed("x", 1), Placed("y", 2)), last) is last
    now = keep(mesh(Placed("new", 0), Placed("x", 1), Placed("y", 3)), last)
    assert now == mesh(Placed("new", 0), Placed("x", 1), Placed("y", 3))
    assert now.services is last.services
    assert now.routes[1] is last.routes[0]
    gone = keep(mesh(Placed("y", 2)), last)
    assert gone.routes[0] is last.routes[1]


def test_a_question_says_what_it_asks() -> None:
    assert repr(Question("mesh", ("services",), Way.ENTRY, ("a",))) == "mesh.services ENTRY ('a',)"
