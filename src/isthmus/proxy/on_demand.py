"""Certificates that one proxy gets when a client asks for them by TLS server name: no IO, no clock.

Envoy asks for the name as the client wrote it. A host has one such name, and as many more as its letters can be written
in; whoever counts on it could have Envoy keep a context for each. So those are served too, but a few at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from isthmus.envoy_api import any_of, unpack
from isthmus.proxy.plan import PlannedCredential
from isthmus.proxy.sds_stream import ServedSecret

MOST_SPELLINGS = 256
"""Names at a time that are a host's in other letters than the plan's."""


class OnDemandSecrets:
    """Implements ``sds_stream.OnDemand``. ``news`` hears of names whose answer changed."""

    def __init__(self, news: Callable[[Iterable[str]], None]) -> None:
        self._news = news
        self._credentials: Mapping[str, PlannedCredential] = {}
        self._by_host: Mapping[str, str] = {}
        self._asked: dict[str, None] = {}
        """Hosts that somebody asked for, as the plan writes them."""
        self._spellings: OrderedDict[str, None] = OrderedDict()
        self._held: dict[str, ServedSecret] = {}
        """By credential."""
        self._served: dict[str, ServedSecret] = {}
        """By the name that Envoy asks for."""

    def plan(self, credentials: Iterable[PlannedCredential]) -> None:
        """What can be asked for from now on; what cannot any more is gone."""
        before = self._by_host
        self._credentials = {credential.name: credential for credential in credentials if credential.hosts}
        self._by_host = {host: one.name for one in self._credentials.values() for host in one.hosts}
        moved = [host for host in self._asked if self._by_host.get(host) != before.get(host)]
        changed = {*moved, *(name for name in self._spellings if name.lower() in moved)}
        for host in moved:
            if host not in self._by_host:
                del self._asked[host]
        for name in changed:
            self._served.pop(name, None)
            if name.lower() not in self._by_host:
                self._spellings.pop(name, None)
        self._held = {name: secret for name, secret in self._held.items() if name in self._credentials}
        if changed:
            self._news(changed)

    def ask(self, name: str) -> PlannedCredential | None:
        """Somebody asks for ``name``: the credential that it means, None if it means none."""
        host = name.lower()
        credential = self._by_host.get(host)
        if credential is None:
            return None
        self._asked[host] = None
        if name != host:
            self._spellings[name] = None
            self._spellings.move_to_end(name)
            if len(self._spellings) > MOST_SPELLINGS:
                oldest, _ = self._spellings.popitem(last=False)
                self._served.pop(oldest, None)
                self._news((oldest,))
        return self._credentials[credential]

    @property
    def wanted(self) -> Mapping[str, PlannedCredential]:
        """The credentials that were asked for, by name."""
        names = {self._by_host[host] for host in self._asked}
        return {name: self._credentials[name] for name in names}

    def give(self, secret: ServedSecret) -> None:
        """A credential came, or came anew; one that nobody asks for is not kept."""
        credential = self._credentials.get(secret.name)
        if credential is None:
            return
        self._held[secret.name] = secret
        hosts = [host for host in credential.hosts if host in self._asked]
        names = [*hosts, *(name for name in self._spellings if self._by_host.get(name.lower()) == secret.name)]
        for name in names:
            self._served.pop(name, None)
        self._news(names)

    def knows(self, name: str) -> bool:
        return name in self._by_host or name in self._spellings

    def find(self, name: str) -> ServedSecret | None:
        """Under the very name that was asked for: Envoy takes no other."""
        if name not in self._served:
            held = self._held.get(self._by_host.get(name.lower(), "")) if self.knows(name) else None
            if held is None:
                return None
            secret = unpack(held.packed)
            secret.name = name  # type: ignore[attr-defined]
            self._served[name] = replace(held, name=name, packed=any_of(secret))
        return self._served[name]
