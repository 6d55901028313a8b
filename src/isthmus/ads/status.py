"""What each connected Envoy has of what it should have, and what it refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from isthmus.diag import Origin
from isthmus.latest import Latest

_MOST_ORIGINS = 5
"""How many manifests a refusal names in its text."""


class SyncState(Enum):
    """Istio's words and meaning (``istioctl proxy-status``), for one type of resource at one proxy."""

    NOT_SENT = "NOT_SENT"
    """The proxy has not asked for the type, or nothing has been sent yet."""
    SYNCED = "SYNCED"
    """All that the proxy should have is there, acknowledged."""
    STALE = "STALE"
    """Something is on its way, or waits for its turn."""
    ERROR = "ERROR"
    """The proxy refuses at least one resource."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A resource that Envoy does not take, and why; stays until another version is taken or the resource is gone."""

    type_url: str
    name: str
    version: str
    message: str
    """Envoy's own words, at most 4,096 characters."""
    origins: tuple[Origin, ...]
    """The manifests it was made from: where to mend it."""

    @property
    def subject(self) -> str:
        """What is refused, and the manifests it was made of: without Envoy's words, which may quote anything."""
        named = [str(origin) for origin in self.origins[:_MOST_ORIGINS]]
        if len(self.origins) > _MOST_ORIGINS:
            named.append(f"and {len(self.origins) - _MOST_ORIGINS} more")
        where = f" made of {', '.join(named)}" if named else ""
        return f"Envoy refuses {self.type_url.rpartition('.')[2]} {self.name!r}{where}"

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}"


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """One type of resource at one proxy. ``acked`` maps names to the versions that the proxy has confirmed."""

    state: SyncState
    acked: Mapping[str, str] = field(repr=False)
    last_ack: datetime | None


@dataclass(frozen=True, slots=True)
class ProxyStatus:
    """One proxy with an open stream. ``types`` has the four types that are served, by type URL.

    ``snapshot_version`` is the newest that the proxy should have; ``in_sync`` says that it has all of it.
    """

    proxy_id: str
    connected_since: datetime
    snapshot_version: str
    in_sync: bool
    types: Mapping[str, TypeStatus]
    refusals: tuple[Refusal, ...]

    @property
    def state(self) -> SyncState:
        """The whole proxy in one word: the worst of its types; NOT_SENT until something has been sent."""
        found = {status.state for status in self.types.values()}
        for state in (SyncState.ERROR, SyncState.STALE):
            if state in found:
                return state
        return (
            SyncState.SYNCED if self.in_sync else SyncState.STALE if SyncState.SYNCED in found else SyncState.NOT_SENT
        )


class Statuses:
    """The status of every connected proxy; those who wait are woken by any change."""

    def __init__(self) -> None:
        self._by_proxy: dict[str, ProxyStatus] = {}
        self._changes: Latest[int] = Latest(0)

    def put(self, status: ProxyStatus) -> None:
        if self._by_proxy.get(status.proxy_id) != status:
            self._by_proxy[status.proxy_id] = status
            self._changes.set(self._changes.value + 1)

    def drop(self, proxy_id: str) -> None:
        """The proxy's stream ended."""
        if self._by_proxy.pop(proxy_id, None) is not None:
            self._changes.set(self._changes.value + 1)

    def get(self, proxy_id: str) -> ProxyStatus | None:
        """The status of a proxy; None while it has no stream."""
        return self._by_proxy.get(proxy_id)

    def all(self) -> tuple[ProxyStatus, ...]:
        """Every connected proxy, by id."""
        return tuple(self._by_proxy[proxy_id] for proxy_id in sorted(self._by_proxy))

    @property
    def version(self) -> int:
        """Counts the changes."""
        return self._changes.version

    async def after(self, version: int) -> int:
        """Wait for a change newer than ``version`` (from :attr:`version`); return the newest."""
        newest, _ = await self._changes.after(version)
        return newest
