"""What a match can reach by the beginning of a value alone: how ordered lists become trees with the same answers.

A list is searched from its first item to its last. Most items can only match values that begin in one way. For each
such beginning, a *key*, :func:`by_longest_key` gathers, in order, every item that can match a value whose longest key
it is. Who looks up the longest key of a value and then searches only what is gathered there gets the list's answer:
what was left out could not have matched. Gathering one item too many costs time, one too few an answer, so whatever
is not understood here reaches everywhere.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from isthmus.model.match import Exact, PathTemplate, Prefix, Regex, StringMatch


@dataclass(frozen=True, slots=True)
class Reach:
    """Values that begin with ``prefix``; ``whole``: no longer ones; ``fold``: in whichever case.

    ``prefix`` is ASCII, and in lower case where ``fold`` is set.
    """

    prefix: str = ""
    whole: bool = False
    fold: bool = False


EVERYWHERE = Reach()

_LITERAL = re.compile(r"(?:[^\\.^$*+?()\[\]{}|]|\\[^\w\s])*")
_FLAGS = re.compile(r"\(\?(i?)\)\^?|\^")
_QUANTIFIERS = ("*", "+", "?", "{")


def reach_of(match: StringMatch, ends: str = "") -> Reach:
    """Where ``match`` can hold. ``ends``: characters that end what it is compared to (``?`` and ``#`` end a path)."""
    match match:
        case Exact(value, ignore_case):
            return _reach(value, ends, whole=True, fold=ignore_case)
        case Prefix(value, ignore_case):
            return _reach(value, ends, fold=ignore_case)
        case PathTemplate(value):
            return _reach(value.partition("{")[0], ends)
        case Regex(value):
            flags = _FLAGS.match(value)
            folded = flags is not None and bool(flags[1])
            return _reach(_beginning(value[flags.end() if flags else 0 :]), ends, fold=folded)
    return EVERYWHERE


def _reach(value: str, ends: str, *, whole: bool = False, fold: bool = False) -> Reach:
    cut = re.split(f"[{re.escape(ends)}]", value, maxsplit=1)[0] if ends else value
    # Folding is ASCII's; what is beyond (a Kelvin sign is a "k" to some) stays out of keys.
    plain = cut if cut.isascii() else re.split(r"[^\x00-\x7f]", cut, maxsplit=1)[0]
    return Reach(plain.lower() if fold else plain, whole and plain == value, fold)


def _beginning(pattern: str) -> str:
    """The literal that every match of an RE2 pattern begins with, as far as it is easily told."""
    if "|" in pattern and _may_branch(pattern):
        return ""
    literal = _LITERAL.match(pattern)
    assert literal is not None
    text = re.sub(r"\\(.)", r"\1", literal[0])
    # The last character may be meant any number of times, also none.
    return text[:-1] if pattern.startswith(_QUANTIFIERS, literal.end()) else text


def _may_branch(pattern: str) -> bool:
    """Whether an alternative may stand outside of every group, where it has a beginning of its own."""
    if "[" in pattern or "\\Q" in pattern:
        return True
    depth = 0
    for mark in re.findall(r"\\.|[()|]", pattern, re.DOTALL):
        depth += {"(": 1, ")": -1}.get(mark, 0)
        if mark == "|" and depth <= 0:
            return True
    return False


MOST_COPIES = 8
"""How many times its list a tree may be: an item that matches whatever the value is in every leaf."""

Leaves = Mapping[str, tuple[int, ...]]
"""By key the items, in order, that can match a value whose longest key it is; ``""``: a value that has no other."""


def by_longest_key(reaches: Sequence[Collection[Reach]], certain: Collection[int] = ()) -> Leaves:
    """The tree of a list. It has a leaf ``""`` always, which may be empty; no other is.

    ``reaches``: of each item, where it can match (nowhere if empty). ``certain``: items that match every value that
    begins with their one reach, so that in a list whose first match decides nothing behind them is asked.
    """
    found = _gathered(reaches, math.inf)
    assert found is not None
    return _ordered(found, certain)


def worthwhile(reaches: Sequence[Collection[Reach]], certain: Collection[int] = (), *, smallest: int) -> Leaves | None:
    """The tree of a list if it pays: the leaves are much shorter, and not too much is copied.

    ``smallest``: of fewer items a list is as fast.
    """
    if len(reaches) < smallest:
        return None
    # Before the cuts a tree may look larger; one that grows without end is not grown to its end.
    found = _gathered(reaches, 2 * MOST_COPIES * len(reaches))
    if found is None:
        return None
    leaves = _ordered(found, certain)
    total = sum(len(leaf) for leaf in leaves.values())
    short = total * 4 <= len(leaves) * len(reaches)
    return leaves if short and total <= MOST_COPIES * len(reaches) else None


def _ordered(found: Mapping[str, Sequence[int]], certain: Collection[int]) -> Leaves:
    return {key: tuple(_until_certain(sorted(set(items)), certain)) for key, items in found.items()}


def _until_certain(items: Sequence[int], certain: Collection[int]) -> Iterator[int]:
    for index in items:
        yield index
        if index in certain:
            return


def _gathered(reaches: Sequence[Collection[Reach]], most: float) -> Mapping[str, list[int]] | None:
    """The items of each key, unordered; None if they are more than ``most`` together."""
    prefixed: dict[str, list[int]] = defaultdict(list)
    gathered: dict[str, list[int]] = defaultdict(list, {"": []})
    folded: list[tuple[int, Reach]] = []
    for index, item in enumerate(reaches):
        for reach in item:
            here = gathered[reach.prefix]
            if reach.fold:
                folded.append((index, reach))
            elif reach.whole:
                here.append(index)
            else:
                prefixed[reach.prefix].append(index)
    total = 0
    lengths = sorted({len(prefix) for prefix in prefixed})
    for key, here in gathered.items():
        for length in lengths[: bisect_right(lengths, len(key))]:
            here.extend(prefixed.get(key[:length], ()))
        total += len(here)
        if total > most:
            return None
    for index, key in _folded_keys(folded, gathered):
        gathered[key].append(index)
        total += 1
        if total > most:
            return None
    return gathered


def _folded_keys(folded: Sequence[tuple[int, Reach]], keys: Collection[str]) -> Iterator[tuple[int, str]]:
    """A value with capitals has the longest key of another: so items whose case does not matter are at more keys.

    They are at every key that begins as they do, or that they begin with.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        alike[key.lower()].append(key)
    beneath: dict[str, list[int]] = defaultdict(list)
    for index, reach in folded:
        for length in range(len(reach.prefix) + 1):
            yield from ((index, key) for key in alike.get(reach.prefix[:length], ()))
        if not reach.whole:
            beneath[reach.prefix].append(index)
    for lowered, same in alike.items() if beneath else ():
        for length in range(len(lowered)):
            for index in beneath.get(lowered[:length], ()):
                yield from ((index, key) for key in same)
