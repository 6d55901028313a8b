"""Drift in the control plane: what the admin interfaces of all Envoys say, and what is told of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from isthmus.ads.status import Statuses
from isthmus.control.control_plane import ControlPlane
from isthmus.control.credential_service import CredentialService
from isthmus.control.nodes import Nodes
from isthmus.control.roster import Roster
from isthmus.control.running import Wants
from isthmus.drift.seen import Seen, Wanted, read_seen
from isthmus.drift.server import DriftService
from isthmus.errors import EnvoyFailed
from isthmus.model.offer import LOCAL_NODE
from isthmus.proxy.envoy import AdminClient
from isthmus.proxy.look import Look, look_at, unpack
from isthmus.proxy.place import Folders


class Looks:
    """Asks the admin interfaces here, and the machines for what theirs say."""

    def __init__(self, folders: Folders, nodes: Nodes) -> None:
        self._folders = folders
        self._nodes = nodes

    async def __call__(self, wanted: Wanted, known: str) -> Callable[[], Seen | None]:
        """How to read what was said, off the loop: None if it is what has the digest ``known``. Raises EnvoyFailed."""
        if wanted.machine == LOCAL_NODE:
            here = await look_at(AdminClient(self._folders.admin_socket(wanted.proxy)))
            return lambda: _seen(here, known)
        there = await self._nodes.look(wanted.machine, wanted.proxy, known)
        return lambda: _seen_there(there, known)


def drift_service(plane: ControlPlane, statuses: Statuses, folders: Folders, nodes: Nodes) -> DriftService:
    """That of a control plane."""

    def now() -> datetime:
        return datetime.now(UTC)

    given = CredentialService(plane, Roster(plane, now, nodes), now)
    return DriftService(Wants(plane, statuses, folders, nodes, given.secret), Looks(folders, nodes))


def _seen(look: Look | None, known: str) -> Seen | None:
    """Raises EnvoyFailed."""
    if look is None or (digest := look.digest) == known:
        return None
    return read_seen(look.dump, look.state, look.options, look.listeners_stopped, look.loudest, digest)


def _seen_there(packed: str, known: str) -> Seen | None:
    """As :func:`_seen`. What another machine says may be anything, and must not end the service that watches it."""
    try:
        return _seen(unpack(packed, known), known)
    except EnvoyFailed:
        raise
    except Exception as broken:
        raise EnvoyFailed(f"what it says of itself cannot be read: {type(broken).__name__}") from None


def drift_gauges(service: DriftService) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    """For the control plane's metrics."""
    return {"isthmus_drift": Counter((one.proxy, one.kind.value) for one in service.found.value)}
