"""Many rules as a tree: over the path, the caller's identity or the host, whichever leaves the fewest to be asked.

RBAC asks its policies one after the other. A tree's leaves hold the rules that can match at all where the value begins
like that (``model/reach.py``), and of a rule that lists many values, those that can. What is left out could not have
matched, and the rest is asked as in the list: verdicts and the policies they name are the list's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from isthmus.envoy_api import Message
from isthmus.filters.matcher_tree import filter_state, header
from isthmus.filters.peer import PEER_STATE
from isthmus.model.predicate import All, AnyOf, Host, Path, Peer, Predicate, all_of, any_of, leaves
from isthmus.model.reach import EVERYWHERE, Leaves, Reach, reach_of, worthwhile

SMALLEST = 64
"""Rules (each alternative counts) below which a list is as fast (``python -m bench trees``)."""

Reaches = tuple[Reach, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """One text of a request that rules can be told apart by. ``ends``: see :func:`reach_of`."""

    fact: type[Path | Peer | Host]
    ends: str
    value: Callable[[], Message]


AXES = (
    Axis(Path, "?#", lambda: header(":path")),
    Axis(Peer, "", lambda: filter_state(PEER_STATE)),
    Axis(Host, "", lambda: header(":authority")),
)

Remainder = tuple[int, Predicate]
"""A rule by its index, and what is left of it to ask."""


@dataclass(frozen=True, slots=True)
class Tree:
    """By the longest key that ``axis`` begins with: what to ask. ``""`` is always there: what has no other key."""

    axis: Axis
    leaves: Mapping[str, tuple[Remainder, ...]]


def plant(rules: Sequence[Predicate], whole: Collection[int] = ()) -> Tree | None:
    """The tree of ``rules``; None where their list is as good.

    ``whole``: rules that must be asked as they are or not at all.
    """
    found = [tree for axis in AXES if (tree := grow(axis, rules, whole, _GATHER)) is not None]
    return min(found, key=_cost, default=None)


Gather = Callable[[Sequence[Reaches]], Leaves | None]
_GATHER: Gather = partial(worthwhile, smallest=SMALLEST)


def grow(axis: Axis, rules: Sequence[Predicate], whole: Collection[int], gather: Gather) -> Tree | None:
    """The tree along one axis, if ``gather`` (:func:`worthwhile`, :func:`by_longest_key`) makes one."""
    splits = [_Split(rule, (rule,)) if index in whole else _split(rule, axis) for index, rule in enumerate(rules)]
    owners = [(index, number) for index, split in enumerate(splits) for number in range(len(split.choices))]
    found = gather([reaches(splits[index].choices[number], axis) for index, number in owners])
    if found is None:
        return None
    return Tree(axis, {key: tuple(_remainders(splits, owners, leaf)) for key, leaf in found.items()})


def reaches(predicate: Predicate, axis: Axis) -> Reaches:
    """Where along ``axis`` it can hold."""
    match predicate:
        case AnyOf(parts):
            found = dict.fromkeys(reach for part in parts for reach in reaches(part, axis))
            return (EVERYWHERE,) if EVERYWHERE in found else tuple(found)
        case All(parts):
            return min((reaches(part, axis) for part in parts), key=_width, default=(EVERYWHERE,))
        case Path(match) | Peer(match) | Host(match) if isinstance(predicate, axis.fact):
            return (reach_of(match, axis.ends),)
    return (EVERYWHERE,)


def _width(found: Reaches) -> tuple[int, int]:
    """The longer the shortest prefix, the narrower; of equals, the fewer."""
    return -min((len(reach.prefix) for reach in found), default=1 << 16), len(found)


@dataclass(frozen=True, slots=True)
class _Split:
    """A rule taken apart: ``before`` and one of ``choices`` and ``after``; each choice may reach elsewhere."""

    rule: Predicate
    choices: tuple[Predicate, ...]
    before: tuple[Predicate, ...] = ()
    after: tuple[Predicate, ...] = ()

    def of(self, chosen: Sequence[int]) -> Predicate:
        """The rule with only some of its choices."""
        if len(chosen) == len(self.choices):
            return self.rule
        return all_of(*self.before, any_of(*(self.choices[index] for index in chosen)), *self.after)


def _split(rule: Predicate, axis: Axis) -> _Split:
    """At the part of a conjunction that narrows it most."""
    if isinstance(rule, AnyOf):
        return _Split(rule, rule.parts)
    if isinstance(rule, All) and rule.parts:
        at = min(range(len(rule.parts)), key=lambda index: _width(reaches(rule.parts[index], axis)))
        pivot = rule.parts[at]
        if isinstance(pivot, AnyOf):
            return _Split(rule, pivot.parts, rule.parts[:at], rule.parts[at + 1 :])
    return _Split(rule, (rule,))


def _remainders(
    splits: Sequence[_Split], owners: Sequence[tuple[int, int]], leaf: Sequence[int]
) -> Iterator[Remainder]:
    chosen: dict[int, list[int]] = {}
    for piece in leaf:
        rule, number = owners[piece]
        chosen.setdefault(rule, []).append(number)
    for rule, numbers in chosen.items():
        yield rule, splits[rule].of(numbers)


def _cost(tree: Tree) -> float:
    """Facts to be asked at a leaf, on average."""
    asked = sum(len(leaves(rest)) for leaf in tree.leaves.values() for _, rest in leaf)
    return asked / len(tree.leaves)
