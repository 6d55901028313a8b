"""Which VirtualServices a Gateway's servers carry, found without comparing every host with every other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from isthmus.model.gateway import ServerHost, narrower_host
from isthmus.model.host import wildcards
from isthmus.model.route import RouteTable

_Named = tuple[int, RouteTable]
"""A VirtualService with its place in the order of loading."""


class Bindings:
    """The VirtualServices of one Gateway (in order of loading), by the hosts that they name."""

    def __init__(self, tables: Iterable[RouteTable]) -> None:
        self._by_host: dict[str, list[_Named]] = defaultdict(list)
        for place, table in enumerate(tables):
            for host in table.hosts:
                self._by_host[host].append((place, table))

    def of(self, host: ServerHost) -> Iterator[tuple[str, RouteTable]]:
        """Those bound to ``host``, each with the host that both mean."""
        for common, table in self._wildcard(host.name) if "*" in host.name else self._name(host.name):
            if host.namespace in (None, table.namespace):
                yield common, table

    def _name(self, name: str) -> Iterator[tuple[str, RouteTable]]:
        found = sorted(self._naming(wildcards(name)), key=lambda named: named[0])
        return ((name, table) for _, table in found)

    def _naming(self, hosts: Iterable[str]) -> Iterator[_Named]:
        for host in hosts:
            yield from self._by_host.get(host, ())

    def _wildcard(self, pattern: str) -> Iterator[tuple[str, RouteTable]]:
        common = ((narrower_host(pattern, host), named) for host, named in self._by_host.items())
        found = [(place, host, table) for host, named in common if host is not None for place, table in named]
        return ((host, table) for _, host, table in sorted(found, key=lambda one: one[0]))
