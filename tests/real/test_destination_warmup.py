"""loadBalancer.warmup: a new endpoint of a service gets its share slowly, at every level of a DestinationRule."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from tests.real.destination import OTHER_PORT, RULED_PORT, SUBSET, Level, Server, at_every_level
from tests.real.traffic import Caller, Manifest, caller, dump, manifest, routes, service, to, workload
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

_SECONDS = 20.0
_ASKED = 40
_RULES: Mapping[str, Manifest] = {
    "slow": {"warmup": {"duration": f"{_SECONDS:g}s"}},
    "least": {"warmup": {"duration": f"{_SECONDS:g}s", "minimumPercent": 60}},
    "old-name": {"warmupDurationSecs": f"{_SECONDS:g}s"},
    "fast": {"warmup": {"duration": f"{_SECONDS:g}s", "minimumPercent": 1, "aggression": 12}},
    "cold": {},
}
"""Asked in this order: what grows with time first, before a slow machine's time has made it grow."""
_LABELS = {"app": "warm", "all": "yes"}
_PORTS = [{"name": f"http-{port}", "port": port, "targetPort": "http"} for port in (RULED_PORT, OTHER_PORT)]
Shares = Mapping[tuple[Level, str], float]


def name_of(rule: str, level: Level) -> str:
    return f"{rule}-{level.name.lower().replace('_', '-')}"


def ruled(rule: str, level: Level) -> Iterator[Manifest]:
    """All services have the same workloads: these are endpoints that come and go, of one cluster that stays."""
    name = name_of(rule, level)
    policy: Manifest = {"loadBalancer": {"simple": "ROUND_ROBIN", **_RULES[rule]}}
    if level.is_port:
        policy = {"portLevelSettings": [{"port": {"number": RULED_PORT}, **policy}]}
    spec: Manifest = {"trafficPolicy": policy}
    if level.is_subset:
        spec = {"subsets": [{"name": SUBSET, "labels": {"all": "yes"}, "trafficPolicy": policy}]}
        yield routes(name, [name], {"route": [to(name, RULED_PORT, SUBSET)]})
    yield service(name, selector={"app": "warm"}, ports=_PORTS)
    yield manifest("DestinationRule", name, {"host": name, **spec})


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture(scope="module")
def share(stack: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Shares:
    """The second endpoint's share of the requests, as soon as it has its first."""
    folder = tmp_path_factory.mktemp("warmup")
    first, second = stack.enter_context(Server()), stack.enter_context(Server())
    written = [one for level in Level for rule in _RULES for one in ruled(rule, level)]
    there = [caller("front", folder), workload("first", first.port, _LABELS), *written]
    up = stack.enter_context(Up(folder, {"all.yaml": dump(*there)}))
    started = time.monotonic()
    front = Caller("front", folder)
    # What is there from the start was new then: it has to be warm before anybody can be colder.
    time.sleep(max(0.0, started + _SECONDS - time.monotonic()))
    up.write("late.yaml", dump(workload("second", second.port, _LABELS)))
    urls = {
        (level, rule): f"http://{name_of(rule, level)}.shop.svc.cluster.local/" for rule in _RULES for level in Level
    }
    eventually(lambda: front.get(urls[Level.SERVICE, "cold"]).json()["port"] == second.port, 30)
    return {
        key: [front.get(url).json()["port"] for _ in range(_ASKED)].count(second.port) / _ASKED
        for key, url in urls.items()
    }


@at_every_level("loadBalancer.warmup.duration", "loadBalancer.warmupDurationSecs")
def test_a_share_grows(share: Shares, level: Level) -> None:
    """In turns leaves nothing to chance: a half at once, or a tenth first."""
    assert share[level, "cold"] == 0.5
    assert share[level, "slow"] < 0.35
    assert share[level, "old-name"] < 0.35


@at_every_level("loadBalancer.warmup.minimumPercent")
def test_from_the_least_share(share: Shares, level: Level) -> None:
    """60 of 160 is 37 %."""
    assert 0.35 <= share[level, "least"] < 0.45


@at_every_level("loadBalancer.warmup.aggression")
def test_faster_at_first(share: Shares, level: Level) -> None:
    """A hundredth of the time is two thirds of the way, and begins at a hundredth."""
    assert 0.35 <= share[level, "fast"] < 0.5
