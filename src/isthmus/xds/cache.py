"""Clusters and endpoints are the same for every proxy: built once for a (Mesh, World), shared as bytes."""

from __future__ import annotations

from collections.abc import Callable

from isthmus.xds.snapshot import Built


class TargetCache:
    """For one Mesh and one World; another of either needs another cache. Keys are cluster names."""

    def __init__(self) -> None:
        self._built: dict[str, tuple[Built, ...]] = {}

    def get(self, cluster: str, build: Callable[[], tuple[Built, ...]]) -> tuple[Built, ...]:
        """What ``build`` gave the first time that ``cluster`` was asked for."""
        found = self._built.get(cluster)
        if found is None:
            found = self._built[cluster] = build()
        return found
