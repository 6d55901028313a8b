from __future__ import annotations

from typing import Any

import pytest

from isthmus.drift.compare import compare
from isthmus.drift.seen import Seen
from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import admin_v3, bootstrap_v3, cluster_v3, core_v3
from isthmus.xds.snapshot import build, message
from tests.ads.playbook import cluster, listener, route

from .looking import ALL, OPTIONS, PROXY, active, seen, wanted


def told(look: Seen, **changes: Any) -> list[tuple[str, str, str]]:
    found = compare(wanted(**changes), look)
    assert all(one.proxy == PROXY for one in found)
    return [(one.kind.value, one.name, one.difference) for one in found]


def test_as_declared() -> None:
    assert told(seen()) == []


@pytest.mark.parametrize(
    ("look", "found"),
    [
        pytest.param(
            seen(*ALL, listener("extra")), ("listener", "extra", "runs, and was not declared"), id="a listener more"
        ),
        pytest.param(
            seen(ALL[0], ALL[2], cluster("c2")),
            ("listener", "l", "was declared, and does not run"),
            id="a listener less",
        ),
        pytest.param(
            seen(ALL[0], listener("l", 2), ALL[2]), ("listener", "l", 'stat_prefix: "v1" → "v2"'), id="changed"
        ),
        pytest.param(seen(*ALL[1:]), ("cluster", "c", "was declared, and does not run"), id="a cluster less"),
        pytest.param(seen(*ALL, route("r2")), ("route", "r2", "runs, and was not declared"), id="routes more"),
        pytest.param(
            seen(*ALL, build("f", core_v3.TypedExtensionConfig(name="f"))),
            ("filter", "f", "runs, and was not declared"),
            id="a filter more",
        ),
        pytest.param(seen(state="DRAINING"), ("state", "server", "LIVE → DRAINING"), id="draining"),
        pytest.param(seen(loudest="trace"), ("state", "log level", "warning → trace"), id="loud"),
        pytest.param(seen(loudest="unknown"), ("state", "log level", "warning → unknown"), id="cannot be told"),
        pytest.param(seen(listeners_stopped=2), ("state", "listeners", "2 closed by the admin interface"), id="closed"),
        pytest.param(seen(options={}), ("option", "config_path", "/run/one.json → None"), id="another file"),
    ],
)
def test_what_differs(look: Seen, found: tuple[str, str, str]) -> None:
    assert found in told(look)


def test_what_another_machine_calls_its_resources_is_no_danger_to_a_log_or_a_terminal() -> None:
    look = seen(*ALL, listener("x\n\x1b[31mALARM"), *(listener(f"l{number}") for number in range(300)))
    found = compare(wanted(machine="edge-1"), look)
    assert len(found) == 100
    assert {one.machine for one in found} == {"edge-1"}
    assert found[0].name == "x??[31mALARM"


def test_what_is_on_its_way_is_not_looked_at() -> None:
    assert told(seen(*ALL, listener("extra")), settled=False) == []
    assert told(seen(*ALL, listener("extra"), state="DRAINING"), settled=False) == [
        ("state", "server", "LIVE → DRAINING")
    ]


def test_another_bootstrap() -> None:
    static = bootstrap_v3.Bootstrap.StaticResources(clusters=[cluster_v3.Cluster(name="backdoor")])
    bootstrap = bootstrap_v3.Bootstrap(node=core_v3.Node(id=PROXY), static_resources=static)
    ((kind, _, difference),) = told(seen(parts=(admin_v3.BootstrapConfigDump(bootstrap=bootstrap),)))
    assert kind == "bootstrap"
    assert difference.startswith("static_resources: nothing → ")


def test_a_listener_of_the_bootstrap() -> None:
    packed = any_of(message(listener("backdoor")))
    static = admin_v3.ListenersConfigDump.StaticListener(listener=packed)
    running = [active(any_of(message(listener("l"))))]
    look = seen(parts=(admin_v3.ListenersConfigDump(dynamic_listeners=running, static_listeners=[static]),))
    assert ("listener", "backdoor", "runs, and was not declared") in told(look)


def test_a_listener_that_leaves_keeps_its_routes_for_its_last_requests() -> None:
    going = admin_v3.ListenersConfigDump.DynamicListener(
        name="old", draining_state={"listener": any_of(message(listener("old")))}
    )
    listeners = admin_v3.ListenersConfigDump(dynamic_listeners=[active(any_of(message(listener("l")))), going])
    assert told(seen(*ALL, route("old"), parts=(listeners,))) == []
    assert wanted().options == OPTIONS
