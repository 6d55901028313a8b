from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from isthmus.ads.status import ProxyStatus, Refusal, Statuses, SyncState, TypeStatus
from isthmus.control.control_plane import ControlPlane
from isthmus.control.guests import Guests
from isthmus.control.view import View
from isthmus.diag import Origin, Ref, Source
from isthmus.errors import Refused
from isthmus.identity.enrolment import JoinTokens
from isthmus.model.world import Address
from isthmus.proxy.place import Folders
from isthmus.xds.snapshot import CLUSTER, LISTENER

from .making import ORDERS, SIDECAR, plane_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ORIGIN = Origin(Ref("WorkloadEntry", "shop", "orders-1"), Source("shop.yaml", 7, 1))


class Running:
    """A view of a plane, with Envoys that say what the test says."""

    def __init__(self, *texts: str) -> None:
        self.plane: ControlPlane = plane_of(*texts)
        self.statuses, self.tokens = Statuses(), JoinTokens()
        folders = Folders(Path("/state"), Path("/run/isthmus"))
        self.statistics = "envoy_istio_requests_total{} 1\n"

        async def ask(proxy_id: str) -> str:
            return self.statistics

        http = Address("127.0.0.1", 15000)
        pilot = "pilot_xds 1.0\n"
        self.view = View(
            self.plane, self.statuses, Guests(), self.tokens, folders, 4711, http, lambda: NOW, lambda: pilot, ask
        )

    def acknowledge(self, proxy: str = SIDECAR, version: str | None = None, *refusals: Refusal) -> None:
        newest = self.plane.snapshot(proxy).value.version if version is None else version
        state = SyncState.ERROR if refusals else SyncState.SYNCED
        types = {CLUSTER: TypeStatus(state, {"one": "1", "two": "2"}, NOW)}
        self.statuses.put(ProxyStatus(proxy, NOW, newest, not refusals, types, refusals))


REFUSAL = Refusal(LISTENER, "inbound_8080", "1", "no such filter", (ORIGIN,))


def test_ready_when_every_proxy_has_the_newest() -> None:
    running = Running(ORDERS)
    assert running.view.ready() == (False, {"not_in_sync": [SIDECAR], "refusals": []})
    running.acknowledge(version="an older one")
    assert not running.view.ready()[0]
    running.acknowledge()
    ready, document = running.view.ready()
    assert ready
    assert (document["pid"], document["control_plane"]["http"]) == (4711, "http://127.0.0.1:15000")
    assert document["control_plane"]["api"] == "unix:///state/api.sock"
    running.statuses.drop(SIDECAR)
    assert not running.view.ready()[0]


def test_a_refusal_keeps_it_from_being_ready_and_is_told() -> None:
    running = Running(ORDERS)
    running.acknowledge(SIDECAR, None, REFUSAL)
    ready, document = running.view.ready()
    assert not ready
    (told,) = document["refusals"]
    assert "inbound_8080" in told
    assert "shop.yaml:7:1" in told


async def test_metrics_of_every_proxy_that_runs_here() -> None:
    running = Running(ORDERS)
    (target,) = running.view.metric_targets()
    assert target["targets"] == ["127.0.0.1:15000"]
    assert target["labels"]["__metrics_path__"] == f"/metrics/proxies/{SIDECAR}"
    assert await running.view.proxy_metrics(SIDECAR) == "istio_requests_total{} 1\n"
    assert await running.view.proxy_metrics("sidecar~shop~nobody") is None
    assert running.view.metrics() == "pilot_xds 1.0\n"


def test_without_proxies_it_is_ready_at_once() -> None:
    assert Running().view.ready()[0]


async def test_a_plan_is_waited_for() -> None:
    running = Running(ORDERS)
    first = await running.view.plan_after(-1)
    assert [proxy["id"] for proxy in first["proxies"]] == [SIDECAR]
    waiting = asyncio.create_task(running.view.plan_after(first["version"]))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    running.plane.inputs.documents = ()
    running.plane.rebuild()
    assert (await asyncio.wait_for(waiting, 60))["proxies"] == []


async def test_a_plan_of_another_control_plane_is_answered_at_once() -> None:
    """Its version may be higher than ours: versions are of the content."""
    running = Running(ORDERS)
    assert running.plane.plan.value is not None
    ours = running.plane.plan.value.version
    assert (await asyncio.wait_for(running.view.plan_after(ours + 1), 60))["version"] == ours


def test_what_runs_and_how_far_it_is() -> None:
    running = Running(ORDERS)
    (proxy,) = running.view.proxies()
    assert proxy == {
        "id": SIDECAR,
        "name": "orders-1",
        "namespace": "shop",
        "role": "sidecar",
        "identity": "spiffe://cluster.local/ns/shop/sa/default",
        "node": "local",
        "connected_since": None,
        "state": "NOT_SENT",
        "types": {},
        "refusals": [],
    }
    running.acknowledge(SIDECAR, None, REFUSAL)
    (proxy,) = running.view.proxies()
    assert (proxy["state"], proxy["connected_since"]) == ("ERROR", NOW.isoformat())
    assert proxy["types"] == {"clusters": {"state": "ERROR", "resources": 2, "last_ack": NOW.isoformat()}}
    (refusal,) = proxy["refusals"]
    assert (refusal["type"], refusal["name"], refusal["message"]) == ("Listener", "inbound_8080", "no such filter")
    assert refusal["origins"] == [str(ORIGIN)]


@pytest.mark.parametrize("name", ["orders-1", "shop/orders-1", SIDECAR])
def test_what_a_proxy_was_given(name: str) -> None:
    running = Running(ORDERS)
    config = running.view.proxy_config(name)
    assert config is not None
    assert (config["proxy"], config["snapshot_version"]) == (SIDECAR, running.plane.snapshot(SIDECAR).value.version)
    assert config["resources"].keys() == {"clusters", "endpoints", "listeners", "routes", "extensions"}
    inbound = next(one for one in config["resources"]["clusters"] if one["name"] == "inbound|9080||")
    assert inbound["resource"]["type"] == "STATIC"
    assert inbound["origins"] == ["WorkloadEntry/shop/orders-1 (<stdin>:6:1)"]
    json.dumps(config)
    assert running.view.proxy_config("nobody") is None


def test_diagnostics() -> None:
    running = Running(ORDERS + "---\napiVersion: networking.istio.io/v1\nkind: EnvoyFilter\nmetadata: {name: x}\n")
    assert "ISM2003" in [found["code"] for found in running.view.diagnostics()]


def test_a_join_token_is_for_one_node_and_one_use() -> None:
    running = Running()
    token = running.view.join_token("local")
    assert running.tokens.redeem(token, NOW) == "local"


async def test_a_guest_has_its_environment_once_its_sidecar_is_in_sync() -> None:
    running = Running()
    name = running.view.add_workload("shop", "visitor", {"app": "web"}, "Host")
    proxy = f"sidecar~shop~{name}"
    running.plane.rebuild()
    waiting = asyncio.create_task(running.view.workload_environment("shop", name))
    running.acknowledge(proxy, "an older one")
    await asyncio.sleep(0.01)
    assert not waiting.done()
    running.acknowledge(proxy)
    env = await asyncio.wait_for(waiting, 60)
    assert f"of {proxy}" in env["http_proxy"]
    running.view.remove_workload("shop", name)
    running.plane.rebuild()
    assert running.plane.mesh.proxies == ()


def test_a_guest_of_no_namespace_is_refused() -> None:
    with pytest.raises(Refused):
        Running().view.add_workload("Shop!", "default", {}, "Host")


def test_a_program_is_silent_until_the_supervisor_says_otherwise() -> None:
    local = """\
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {name: web, namespace: shop}
spec: {labels: {app: web}, command: [serve], ports: [{name: http, number: 8080}]}
"""
    running = Running(ORDERS, local)
    assert running.plane.silent == {"sidecar~shop~web"}, "of orders, somebody else takes care"
    running.view.programs_listen(["sidecar~shop~web"])
    assert running.plane.silent == frozenset()
