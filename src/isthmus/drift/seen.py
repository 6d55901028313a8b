"""What an Envoy says of itself, and what it should say. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.envoy_api import from_json
from isthmus.errors import EnvoyFailed
from isthmus.model.offer import LOCAL_NODE
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
    digest: str = ""
    """Of all of it: the next look is read if it has another."""


def read_seen(
    dump: str, state: str, options: Mapping[str, str], listeners_stopped: int, loudest: str, digest: str = ""
) -> Seen:
    """``dump``: the admin interface's answer to ``/config_dump``. Raises EnvoyFailed for what is none."""
    try:
        read = from_json(dump, "envoy.admin.v3.ConfigDump")
    except (ValueError, TypeError, KeyError, RecursionError) as broken:
        raise EnvoyFailed(f"its configuration dump cannot be read: {type(broken).__name__}") from None
    return Seen(read, state, options, listeners_stopped, loudest, digest)


@dataclass(frozen=True, slots=True)
class Trust:
    """The roots (PEM) of one trust domain, and the names for which they speak."""

    trust_domain: str
    roots: tuple[str, ...]
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Credential:
    """The public part of a certificate, or of the CAs of peers, that a proxy is given under ``name``. All PEM."""

    name: str
    chain: bytes = field(default=b"", repr=False)
    authorities: bytes = field(default=b"", repr=False)
    revoked: bytes = field(default=b"", repr=False)
    """The lists of what the authorities revoked."""
    development_dns: tuple[str, ...] = ()
    """The machine makes it for these names, by the mesh's own authority."""


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
    machine: str = LOCAL_NODE
    """The node that runs it."""
    credentials: tuple[Credential, ...] = ()
    """Those whose content is known to the control plane."""

    @property
    def version(self) -> object:
        """Changes with what is wanted."""
        return self.snapshot.version, self.trust, self.credentials
