"""What the HTTP API shows and does: implements ``api.server.ControlPlane``."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from isthmus.ads.status import Refusal, Statuses, SyncState
from isthmus.control.control_plane import ControlPlane
from isthmus.control.desired import workload_environment
from isthmus.control.guests import Guests
from isthmus.control.ready import ready_document
from isthmus.control.scrape import exposition
from isthmus.envoy_api import to_json
from isthmus.identity.enrolment import JoinTokens
from isthmus.model.offer import LOCAL_NODE, NOBODY
from isthmus.model.proxy import Proxy, Role
from isthmus.model.world import Address
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import to_json as plan_to_json
from isthmus.xds.outbound import basic_authorization
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, message

_TYPES = {"clusters": CLUSTER, "endpoints": ENDPOINT, "listeners": LISTENER, "routes": ROUTE, "extensions": EXTENSION}


class View:
    """One running control plane, seen from outside."""

    def __init__(
        self,
        plane: ControlPlane,
        statuses: Statuses,
        guests: Guests,
        tokens: JoinTokens,
        folders: Folders,
        pid: int,
        http: Address,
        clock: Callable[[], datetime],
        metrics: Callable[[], str],
        statistics: Callable[[str], Awaitable[str]],
    ) -> None:
        """``metrics``: the control plane's own. ``statistics``: those of an Envoy, by its id; raises EnvoyFailed."""
        self._metrics = metrics
        self._statistics = statistics
        self._plane = plane
        self._statuses = statuses
        self._guests = guests
        self._tokens = tokens
        self._folders = folders
        self._pid = pid
        self._http = http
        self._clock = clock

    def ready(self) -> tuple[bool, dict[str, Any]]:
        carried = (proxy for proxy in self._plane.mesh.proxies if proxy.node != NOBODY)
        late = [proxy.id for proxy in carried if not self._in_sync(proxy)]
        if late or self._plane.world.starting or self._plane.compiled.value is None:
            return False, {"not_in_sync": late, "refusals": [str(refusal) for refusal in self._refusals()]}
        api, http = f"unix://{self._folders.state / 'api.sock'}", f"http://{self._http}"
        return True, ready_document(self._plane.mesh, self._plane.world, self._folders, self._pid, api, http)

    async def plan_after(self, version: int) -> dict[str, Any]:
        async for plan in self._plane.plan:
            if plan is not None and plan.version != version:
                return plan_to_json(plan)
        raise AssertionError("a Latest never ends")

    def join_token(self, node: str) -> str:
        return self._tokens.issue(node, self._clock())

    def programs_listen(self, proxies: list[str]) -> None:
        self._plane.inputs.listening = frozenset(proxies)

    def proxies(self) -> list[dict[str, Any]]:
        return [self._proxy(proxy) for proxy in self._plane.mesh.proxies]

    def proxy_config(self, proxy: str) -> dict[str, Any] | None:
        found = self._plane.mesh.find_proxy(proxy)
        if found is None:
            return None
        snapshot = self._plane.snapshot(found.id).value
        resources = {
            name: [
                {
                    "name": built.name,
                    "version": built.version,
                    "origins": [str(origin) for origin in built.origins],
                    "resource": to_json(message(built)),
                }
                for built in snapshot.of(type_url).values()
            ]
            for name, type_url in _TYPES.items()
        }
        shown = {"proxy": found.id, "snapshot_version": snapshot.version, "resources": resources}
        return self._without_credential(found.id, shown)

    def _without_credential(self, proxy_id: str, shown: dict[str, Any]) -> dict[str, Any]:
        """The outbound proxy's credential stands in its configuration, and configurations end up in bug reports."""
        credential = self._plane.world.outbound_credentials.get(proxy_id)
        if credential is None:
            return shown
        cleaned: dict[str, Any] = json.loads(json.dumps(shown).replace(basic_authorization(credential), "[redacted]"))
        return cleaned

    def metrics(self) -> str:
        return self._metrics()

    async def proxy_metrics(self, proxy: str) -> str | None:
        mesh = self._plane.mesh
        found = mesh.find_proxy(proxy)
        if found is None or not self._here(found):
            return None
        return exposition(await self._statistics(found.id), mesh, found)

    def metric_targets(self) -> list[dict[str, Any]]:
        return [
            {
                "targets": [str(self._http)],
                "labels": {
                    "__metrics_path__": f"/metrics/proxies/{proxy.id}",
                    "instance": proxy.id,
                    "namespace": proxy.namespace,
                    "proxy": proxy.name,
                },
            }
            for proxy in self._plane.mesh.proxies
            if self._here(proxy)
        ]

    def _here(self, proxy: Proxy) -> bool:
        """Whether its Envoy runs on this machine, or on another one that carries it."""
        if proxy.node != LOCAL_NODE:
            return proxy.node != NOBODY
        plan = self._plane.plan.value
        return plan is not None and any(planned.id == proxy.id for planned in plan.proxies)

    def diagnostics(self) -> list[dict[str, Any]]:
        return [found.as_json() for found in self._plane.diagnostics]

    def add_workload(
        self, namespace: str, service_account: str, labels: dict[str, str], network: str, pid: int | None = None
    ) -> str:
        name = self._guests.add(namespace, service_account, labels, network)
        if pid is not None:
            self._guests.programs[namespace, name] = pid
        self._guests_changed()
        return name

    def hold_workload(self, namespace: str, name: str, pid: int | None = None) -> None:
        self._guests.hold(namespace, name)
        if pid is not None:
            self._guests.programs[namespace, name] = pid
            self._guests_changed()

    def remove_unheld_workloads(self) -> None:
        self._guests.remove_unheld()
        self._guests_changed()

    async def workload_environment(self, namespace: str, name: str) -> dict[str, str]:
        await self._until_in_sync(f"{Role.SIDECAR.value}~{namespace}~{name}")
        workload = next(w for w in self._plane.mesh.workloads if (w.namespace, w.name) == (namespace, name))
        return workload_environment(self._plane.mesh, self._plane.world, workload)

    def remove_workload(self, namespace: str, name: str) -> None:
        self._guests.remove(namespace, name)
        self._guests_changed()

    def _guests_changed(self) -> None:
        self._plane.inputs.guests = self._guests.documents
        self._plane.inputs.programs = {
            f"{Role.SIDECAR.value}~{namespace}~{name}": pid for (namespace, name), pid in self._guests.programs.items()
        }
        self._plane.changed()

    async def _until_in_sync(self, proxy_id: str) -> None:
        version = -1
        while True:
            version = await self._statuses.after(version)
            proxy = self._plane.mesh.proxies_by_id.get(proxy_id)
            if proxy is not None and self._in_sync(proxy):
                return

    def _in_sync(self, proxy: Proxy) -> bool:
        status = self._statuses.get(proxy.id)
        newest = self._plane.snapshot(proxy.id).value
        return status is not None and status.in_sync and status.snapshot_version == newest.version

    def _refusals(self) -> list[Refusal]:
        return [refusal for status in self._statuses.all() for refusal in status.refusals]

    def _proxy(self, proxy: Proxy) -> dict[str, Any]:
        status = self._statuses.get(proxy.id)
        return {
            "id": proxy.id,
            "name": proxy.name,
            "namespace": proxy.namespace,
            "role": proxy.role.value,
            "identity": proxy.identity.uri,
            "node": proxy.node or None,
            "connected_since": status.connected_since.isoformat() if status else None,
            "state": (status.state if status else SyncState.NOT_SENT).value,
            "types": {
                name: {
                    "state": found.state.value,
                    "resources": len(found.acked),
                    "last_ack": found.last_ack.isoformat() if found.last_ack else None,
                }
                for name, type_url in _TYPES.items()
                if status and (found := status.types.get(type_url))
            },
            "refusals": [_refusal(refusal) for refusal in (status.refusals if status else ())],
        }


def _refusal(refusal: Refusal) -> dict[str, Any]:
    return {
        "type": refusal.type_url.rpartition(".")[2],
        "name": refusal.name,
        "message": refusal.message,
        "origins": [str(origin) for origin in refusal.origins],
        "text": str(refusal),
    }
