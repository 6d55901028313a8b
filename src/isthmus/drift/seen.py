"""What an Envoy says of itself, and what it should say. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.envoy_api import from_json
from isthmus.xds.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at one Envoy."""

    dump: Any = field(repr=False)
    """An envoy.admin.v3.ConfigDump, without endpoints."""
    state: str
    """Of ``/server_info``: LIVE, DRAINING, …"""
    options: Mapping[str, str]
    """What it was started with: those that :class:`Wanted` names."""
    listeners_stopped: int
    """How many listeners were closed by the admin interface since it runs."""
    loudest: str
    """The most talkative log level of any of its loggers."""


def read_seen(dump: str, state: str, options: Mapping[str, str], listeners_stopped: int, loudest: str) -> Seen:
    """``dump``: the admin interface's answer to ``/config_dump``."""
    return Seen(from_json(dump, "envoy.admin.v3.ConfigDump"), state, options, listeners_stopped, loudest)


@dataclass(frozen=True, slots=True)
class Trust:
    """The roots (PEM) of one trust domain, and the names for which they speak."""

    trust_domain: str
    roots: tuple[str, ...]
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one proxy should have. ``settled``: it has confirmed all of ``snapshot``, or has no stream to do so by.

    One that refuses something has parts of what it had before, and is not settled: its refusals are told anyway.
    """

    proxy: str
    identity: str
    snapshot: Snapshot
    bootstrap: Any = field(repr=False)
    """An envoy.config.bootstrap.v3.Bootstrap."""
    options: Mapping[str, str]
    trust: tuple[Trust, ...]
    """The own trust domain's first."""
    settled: bool = True

    @property
    def version(self) -> object:
        """Changes with what is wanted."""
        return self.snapshot.version, self.trust
