"""Hosts and wildcard hosts."""

from __future__ import annotations

from collections.abc import Iterable

from isthmus.model.route import RouteTable


def host_covers(pattern: str, host: str) -> bool:
    """Whether ``pattern`` (``*``, ``*.example.com`` or a name) takes ``host``."""
    return pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]) and host != pattern[2:])


def most_specific(host: str, tables: Iterable[RouteTable]) -> RouteTable | None:
    """The table whose hosts name ``host`` most closely; of equals, the first loaded."""
    best: tuple[int, RouteTable] | None = None
    for table in tables:
        for pattern in table.hosts:
            if host_covers(pattern, host):
                weight = 1_000_000 if pattern == host else len(pattern)
                if best is None or weight > best[0]:
                    best = (weight, table)
    return best[1] if best else None
