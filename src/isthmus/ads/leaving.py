"""Clusters that nothing leads to any more, and that stay for a while all the same.

A listener that is removed or changed drains: its standing connections may ask once more, and that request needs the
clusters of before. Envoy keeps for itself what it asks for by name (endpoints, routes, filters) until the last that
uses it is gone; clusters it removes when it is told to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from isthmus.xds.snapshot import Built

LINGER = timedelta(seconds=6)
"""Longer than a listener drains (``--drain-time-s`` of :mod:`isthmus.proxy.envoy`)."""


class Leaving:
    """The names, each with the time when it goes. A newer snapshot puts none of them off, or it calls them back."""

    def __init__(self, linger: timedelta = LINGER) -> None:
        self._linger = linger
        self._until: dict[str, datetime] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._until

    def add(self, names: Iterable[str], now: datetime) -> None:
        """Everybody has confirmed to do without ``names``, who are those that are gone now."""
        for name in names:
            self._until.setdefault(name, now + self._linger)

    def call_back(self, resources: Mapping[str, Built]) -> None:
        """What is among ``resources`` stays."""
        if self._until:
            self._until = {name: until for name, until in self._until.items() if name not in resources}

    def take(self, now: datetime) -> list[str]:
        """Those whose time has come; they are not leaving any more."""
        if not self._until:
            return []
        due = [name for name, until in self._until.items() if until <= now]
        for name in due:
            del self._until[name]
        return due

    @property
    def next_time(self) -> datetime | None:
        """When :meth:`take` has something to give."""
        return min(self._until.values(), default=None)
