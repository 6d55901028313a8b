from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from isthmus.ads.status import ProxyStatus, Statuses, SyncState, TypeStatus
from isthmus.control.running import Wants
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import TrustBundle
from isthmus.xds.snapshot import CLUSTER, LISTENER
from tests.control.making import ORDERS, SIDECAR, plane_of

FOLDERS = Folders(Path("/state"), Path("/run/isthmus"))
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def status(version: str, *, in_sync: bool) -> ProxyStatus:
    types = dict.fromkeys((CLUSTER, LISTENER), TypeStatus(SyncState.SYNCED, {}, NOW))
    return ProxyStatus(SIDECAR, NOW, version, in_sync, MappingProxyType(types), ())


def test_what_the_envoys_of_this_machine_should_have() -> None:
    plane, statuses = plane_of(ORDERS), Statuses()
    wants = Wants(plane, statuses, FOLDERS)
    plane.rebuild()
    plane.inputs.trust = (TrustBundle("cluster.local", ("root",)),)
    (found,) = wants().values()
    assert found.proxy == SIDECAR
    assert found.identity == "spiffe://cluster.local/ns/shop/sa/default"
    assert found.snapshot is plane.snapshot(SIDECAR).value
    assert found.bootstrap.node.id == SIDECAR
    assert found.options["config_path"] == str(FOLDERS.bootstrap(SIDECAR))
    assert [(one.trust_domain, one.roots) for one in found.trust] == [("cluster.local", ("root",))]


def test_who_has_not_confirmed_yet_is_not_settled() -> None:
    plane, statuses = plane_of(ORDERS), Statuses()
    wants = Wants(plane, statuses, FOLDERS)
    plane.rebuild()
    newest = plane.snapshot(SIDECAR).value.version

    def settled() -> bool:
        return wants()[SIDECAR].settled

    assert settled(), "without a stream it has what it has"
    statuses.put(status(newest, in_sync=False))
    assert not settled()
    statuses.put(status("older", in_sync=True))
    assert not settled()
    statuses.put(status(newest, in_sync=True))
    assert settled()


def test_who_leaves_is_not_looked_at() -> None:
    plane = plane_of(ORDERS)
    plane.rebuild()
    plane.inputs.documents = ()
    plane.compiled.set(None)
    assert Wants(plane, Statuses(), FOLDERS)() == {}
