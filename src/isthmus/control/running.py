"""What every Envoy should be running, here and on other machines: the measure of drift."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from isthmus.ads.status import ProxyStatus, Statuses, SyncState
from isthmus.control.control_plane import ControlPlane
from isthmus.control.nodes import Nodes
from isthmus.drift.seen import Credential, Trust, Wanted
from isthmus.envoy_api import unpack
from isthmus.model.offer import LOCAL_NODE
from isthmus.model.world import Address
from isthmus.proxy.place import Folders, bootstrap_settings, relay_settings
from isthmus.proxy.plan import Plan, PlannedCredential, PlannedProxy
from isthmus.xds.bootstrap import build_bootstrap
from isthmus.xds.relay import RELAY_ID, build_relay_bootstrap, build_relay_clusters, build_relay_listeners
from isthmus.xds.snapshot import CLUSTER, LISTENER, Snapshot, build, snapshot

_OF_SECRETS = ("credential:", "credential-ca:")
"""Names of what the control plane has from Secrets, and Envoy shows."""
_log = logging.getLogger(__name__)


class Wants:
    """What the proxies should have, by id: those of this machine, and of the machines that are connected.

    What was built is kept while it is wanted: this is asked after every look at an Envoy.
    """

    def __init__(
        self,
        plane: ControlPlane,
        statuses: Statuses,
        folders: Folders,
        nodes: Nodes,
        secret: Callable[[str], Any],
    ) -> None:
        """``secret``: an envoy.extensions.transport_sockets.tls.v3.Secret that the control plane hands out, or None."""
        self._plane = plane
        self._statuses = statuses
        self._folders = folders
        self._nodes = nodes
        self._secret = secret
        self._bootstraps: dict[str, tuple[object, Any]] = {}
        self._relay: tuple[tuple[Address, ...], Snapshot] | None = None
        self._credentials: dict[str, tuple[PlannedCredential, Credential | None]] = {}
        self._broken: dict[str, str] = {}
        """Machines whose proxies cannot be told, and why."""

    def __call__(self) -> Mapping[str, Wanted]:
        plan = self._plane.plan.value
        found: dict[str, Wanted] = {}
        if plan is not None:
            found = {one.proxy: one for one in self._of(plan, self._folders)}
            if plan.relay is not None:
                found[RELAY_ID] = self._of_relay(plan.relay)
        for node, offer in self._nodes.offers.items():
            theirs = self._plane.node_plan(node).value
            if theirs is not None and offer.control_plane is not None and self._nodes.connected(node):
                runtime = Path(offer.runtime)
                some = self._of_another(theirs, Folders(runtime, runtime), node, offer.control_plane)
                found |= {one.proxy: one for one in some}
        for kept in (self._bootstraps, self._credentials):
            if len(kept) > 2 * self._kept_at_most(found):
                kept.clear()
        return found

    @staticmethod
    def _kept_at_most(found: Mapping[str, Wanted]) -> int:
        return len(found) + sum(len(one.credentials) for one in found.values()) + 100

    def _of(
        self, plan: Plan, folders: Folders, machine: str = LOCAL_NODE, ads: Address | None = None
    ) -> Iterator[Wanted]:
        trust = tuple(Trust(one.trust_domain, one.roots, one.aliases) for one in self._plane.trust)
        for proxy in plan.proxies:
            # One that leaves drains, as it should.
            if proxy.id not in self._plane.mesh.proxies_by_id:
                continue
            declared = self._plane.snapshot(proxy.id).value
            yield Wanted(
                proxy.id,
                proxy.identity,
                declared,
                self._bootstrap(folders, plan, proxy, ads or plan.ads),
                _options(folders, proxy.id),
                trust,
                settled=_settled(self._statuses.get(proxy.id), declared.version),
                machine=machine,
                credentials=tuple(self._given(proxy)),
            )

    def _of_another(self, plan: Plan, folders: Folders, node: str, ads: Address) -> tuple[Wanted, ...]:
        """What its bootstraps are made of is the machine's own word: it must not end the service that watches them."""
        try:
            some = tuple(self._of(plan, folders, node, ads))
        except Exception as broken:
            why = type(broken).__name__
            if self._broken.get(node) != why:
                _log.warning("node %s: what its Envoys should run cannot be said, and is not compared: %s", node, why)
            self._broken[node] = why
            return ()
        self._broken.pop(node, None)
        return some

    def _bootstrap(self, folders: Folders, plan: Plan, proxy: PlannedProxy, ads: Address) -> Any:
        settings = bootstrap_settings(folders, plan, proxy, ads)
        kept = self._bootstraps.get(proxy.id)
        if kept is None or kept[0] != settings:
            kept = self._bootstraps[proxy.id] = settings, build_bootstrap(settings)
        return kept[1]

    def _of_relay(self, targets: tuple[Address, ...]) -> Wanted:
        """It is told by files, and knows nobody of the mesh."""
        settings = relay_settings(self._folders)
        if self._relay is None or self._relay[0] != targets:
            packed = (*build_relay_clusters(targets).resources, *build_relay_listeners(settings, targets).resources)
            messages: list[Any] = [unpack(one) for one in packed]
            self._relay = targets, snapshot(build(one.name, one) for one in messages)
        bootstrap = build_relay_bootstrap(settings)
        return Wanted(RELAY_ID, "", self._relay[1], bootstrap, _options(self._folders, RELAY_ID), ())

    def _given(self, proxy: PlannedProxy) -> Iterator[Credential]:
        for planned in proxy.credentials:
            kept = self._credentials.get(planned.name)
            if kept is None or kept[0] != planned or kept[1] is None:
                kept = self._credentials[planned.name] = planned, self._credential(planned)
            if kept[1] is not None:
                yield kept[1]

    def _credential(self, planned: PlannedCredential) -> Credential | None:
        """None: what it holds is in files of its machine, not to be looked at, or not there."""
        if planned.development_dns is not None:
            return Credential(planned.name, development_dns=planned.development_dns)
        secret = self._secret(planned.name) if planned.name.startswith(_OF_SECRETS) else None
        if secret is None:
            return None
        context = secret.validation_context
        return Credential(
            planned.name,
            secret.tls_certificate.certificate_chain.inline_bytes,
            context.trusted_ca.inline_bytes,
            context.crl.inline_bytes,
        )


def _options(folders: Folders, proxy_id: str) -> Mapping[str, str]:
    """Of the command line."""
    return {
        "config_path": str(folders.bootstrap(proxy_id)),
        "drain_strategy": "Immediate",
        "disable_hot_restart": "True",
    }


def _settled(status: ProxyStatus | None, version: str) -> bool:
    if status is None:
        return True
    states = {status.types[type_url].state for type_url in (CLUSTER, LISTENER)}
    return status.in_sync and status.snapshot_version == version and states == {SyncState.SYNCED}
