"""What every Envoy of this machine should be running: the measure of drift."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.ads.status import ProxyStatus, Statuses, SyncState
from isthmus.control.control_plane import ControlPlane
from isthmus.drift.seen import Trust, Wanted
from isthmus.proxy.place import Folders, bootstrap_settings
from isthmus.xds.bootstrap import build_bootstrap
from isthmus.xds.snapshot import CLUSTER, LISTENER


class Wants:
    """What the proxies of this machine should have, by id."""

    def __init__(self, plane: ControlPlane, statuses: Statuses, folders: Folders) -> None:
        self._plane = plane
        self._statuses = statuses
        self._folders = folders

    def __call__(self) -> Mapping[str, Wanted]:
        plane, plan = self._plane, self._plane.plan.value
        if plan is None:
            return {}
        trust = tuple(Trust(one.trust_domain, one.roots, one.aliases) for one in plane.trust)
        found = {}
        for proxy in plan.proxies:
            # One that leaves drains, as it should.
            if proxy.id not in plane.mesh.proxies_by_id:
                continue
            snapshot = plane.snapshot(proxy.id).value
            found[proxy.id] = Wanted(
                proxy.id,
                proxy.identity,
                snapshot,
                build_bootstrap(bootstrap_settings(self._folders, plan, proxy)),
                {
                    "config_path": str(self._folders.bootstrap(proxy.id)),
                    "drain_strategy": "Immediate",
                    "disable_hot_restart": "True",
                },
                trust,
                settled=_settled(self._statuses.get(proxy.id), snapshot.version),
            )
        return found


def _settled(status: ProxyStatus | None, version: str) -> bool:
    if status is None:
        return True
    states = {status.types[type_url].state for type_url in (CLUSTER, LISTENER)}
    return status.in_sync and status.snapshot_version == version and states == {SyncState.SYNCED}
