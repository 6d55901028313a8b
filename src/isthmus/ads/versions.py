"""Which version of each resource a proxy was told of, or has confirmed.

Nearly always that is what the snapshot says, and the snapshot is shared by all proxies: so it is written down as that,
and only what differs is held for each proxy. A thousand proxies with a thousand clusters are then a thousand times
nothing, rather than a million entries.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, MutableMapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, Generic, Self, TypeVar

from isthmus.xds.snapshot import NOTHING, Built, names_of, unlike

V = TypeVar("V")


class _Away(Enum):
    """Stands for a name of the base that is not here."""

    AWAY = 0


_AWAY: Final = _Away.AWAY


class OverBase(MutableMapping[str, V], Generic[V]):
    """A mapping by name that holds only where it differs from a *base*: the resources of a snapshot."""

    __slots__ = ("_base", "_own")

    def __init__(
        self, base: Mapping[str, Built] = NOTHING, own: Mapping[str, V | _Away] = MappingProxyType({})
    ) -> None:
        self._base = base
        self._own = dict(own)

    @abstractmethod
    def of(self, built: Built) -> V:
        """What a resource of the base stands for."""

    def __getitem__(self, name: str) -> V:
        if name not in self._own:
            return self.of(self._base[name])
        found = self._own[name]
        if isinstance(found, _Away):
            raise KeyError(name)
        return found

    def __setitem__(self, name: str, value: V) -> None:
        self._own[name] = value

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        if name in self._base:
            self._own[name] = _AWAY
        else:
            del self._own[name]

    def __contains__(self, name: object) -> bool:
        return self._own[name] is not _AWAY if name in self._own else name in self._base

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self._base if name not in self._own)
        yield from (name for name, value in self._own.items() if value is not _AWAY)

    def __len__(self) -> int:
        return sum(1 for _ in self) if self._own else len(self._base)

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None if self._own else len(self._base) > 0

    def suspects(self, resources: Mapping[str, Built]) -> tuple[str, ...]:
        """The names, of here or of ``resources``, for which the two may differ; for no other do they."""
        if not self._own:
            return unlike(self._base, resources)
        return tuple(dict.fromkeys((*unlike(self._base, resources), *self._own)))

    def update(self, other: Any = (), /, **none: V) -> None:
        """Of many at once."""
        self._own.update(other, **none)

    def is_just(self, resources: Mapping[str, Built]) -> bool:
        """Whether this is ``resources``, and known to be."""
        return self._base is resources and not self._own

    def become(self, resources: Mapping[str, Built]) -> None:
        """Be ``resources`` and nothing else."""
        self._base, self._own = resources, {}

    def rebase(self, resources: Mapping[str, Built]) -> None:
        """Share ``resources`` from now on, if that is what is here anyway."""
        if self.is_just(resources) or len(self._base) + len(self._own) < len(resources):
            return
        for name in self.suspects(resources):
            built = resources.get(name)
            alike = name not in self if built is None else name in self and self[name] == self.of(built)
            if not alike:
                return
        self.become(resources)

    def copy(self) -> Self:
        """As it is now, for good."""
        return type(self)(self._base, self._own)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, OverBase) and other._base is self._base and other._own == self._own:
            return True
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]


class Told(OverBase[str | None]):
    """Versions by name; None for one that was removed."""

    __slots__ = ()

    def of(self, built: Built) -> str:
        return built.version


class Acked(OverBase[str]):
    """Versions by name."""

    __slots__ = ()

    def of(self, built: Built) -> str:
        return built.version


class Names(OverBase[None]):
    """A set of names."""

    __slots__ = ()

    def of(self, built: Built) -> None:
        return None

    def rebase(self, resources: Mapping[str, Built]) -> None:
        if self._own and self._base is NOTHING and self._own.keys() == names_of(resources):
            self.become(resources)
        else:
            super().rebase(resources)
