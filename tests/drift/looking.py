"""An Envoy as it should be, and looks at it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from isthmus.drift.seen import Seen, Trust, Wanted
from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import admin_v3, bootstrap_v3, core_v3, listener_v3
from isthmus.xds.snapshot import CLUSTER, EXTENSION, LISTENER, ROUTE, Built, message, snapshot
from tests.ads.playbook import cluster, listener, route
from tests.real.pki import Authority

PROXY = "sidecar~bank~ledger"
IDENTITY = "spiffe://td1/ns/bank/sa/ledger"
ROOT = Authority("td1")
OWN = Trust("td1", (ROOT.pem.decode(),))
OPTIONS = {"config_path": "/run/one.json"}
ALL = (cluster("c"), listener("l"), route("r"))


def wanted(*builts: Built, **changes: Any) -> Wanted:
    bootstrap = bootstrap_v3.Bootstrap(node=core_v3.Node(id=PROXY))
    return replace(Wanted(PROXY, IDENTITY, snapshot(builts or ALL), bootstrap, OPTIONS, (OWN,)), **changes)


def seen(*builts: Built, parts: tuple[Any, ...] = (), **changes: Any) -> Seen:
    """An Envoy that has ``builts``; ``parts``: more of its configuration dump."""
    dump = admin_v3.ConfigDump(configs=[any_of(part) for part in (*_parts(builts or ALL), *parts)])
    made = replace(Seen(dump, "LIVE", OPTIONS, 0, "warning"), **changes)
    return replace(made, digest=f"{made!r} {dump.SerializeToString().hex()}")


def _parts(builts: tuple[Built, ...]) -> list[Any]:
    packed: dict[str, list[Any]] = {type_url: [] for type_url in (CLUSTER, LISTENER, ROUTE, EXTENSION)}
    for built in builts:
        packed[built.type_url].append(any_of(message(built)))
    node = core_v3.Node(id=PROXY, user_agent_name="envoy", extensions=[core_v3.Extension(name="x")])
    return [
        admin_v3.BootstrapConfigDump(bootstrap=bootstrap_v3.Bootstrap(node=node)),
        admin_v3.ClustersConfigDump(dynamic_active_clusters=[{"cluster": one} for one in packed[CLUSTER]]),
        admin_v3.ListenersConfigDump(dynamic_listeners=[active(one) for one in packed[LISTENER]]),
        admin_v3.RoutesConfigDump(dynamic_route_configs=[{"route_config": one} for one in packed[ROUTE]]),
        admin_v3.EcdsConfigDump(ecds_filters=[{"ecds_filter": one} for one in packed[EXTENSION]]),
    ]


def active(packed: Any) -> Any:
    name = listener_v3.Listener.FromString(packed.value).name
    return admin_v3.ListenersConfigDump.DynamicListener(name=name, active_state={"listener": packed})


def svid(authority: Authority = ROOT, uri: str = IDENTITY) -> bytes:
    return authority.issue(uri).chain


NOW = datetime(2026, 1, 2, tzinfo=UTC)
SECOND = timedelta(seconds=1)
