from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isthmus.xds.snapshot import snapshot

from .real import NODE, Lab, backend, eds_cluster, endpoints, eventually, lab, rbac, routes

pytestmark = pytest.mark.real


@pytest.fixture(params=["DELTA_GRPC", "GRPC"])
async def envoy(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    async with lab(tmp_path / "envoy.log", request.param) as found:
        yield found


class Traffic:
    """Requests one after the other, every fifth on a new connection, until told to stop."""

    def __init__(self, envoy: Lab) -> None:
        self.answers: dict[str, int] = {}
        self._envoy = envoy

    async def run(self) -> None:
        while True:
            async with self._envoy.client("web") as client:
                for _ in range(5):
                    response = await client.get("/")
                    answer = response.text if response.status_code == 200 else f"{response.status_code}"
                    self.answers[answer] = self.answers.get(answer, 0) + 1
                    await asyncio.sleep(0.002)

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[Traffic]:
        task = asyncio.create_task(self.run())
        try:
            yield self
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_first_push_serves_and_a_changed_route_answers_anew(envoy: Lab) -> None:
    plane = envoy.control_plane
    async with backend("one") as one, backend("two") as two:
        web = envoy.listener("web")
        await plane.settle(eds_cluster("one"), endpoints("one", one), web, routes("web", "one"))
        await envoy.wait_for("one")
        async with Traffic(envoy).flowing() as traffic:
            for _ in range(10):
                # A new cluster, a route that moves to it, and the old cluster gone, in one snapshot.
                await plane.settle(eds_cluster("two"), endpoints("two", two), web, routes("web", "two"))
                await envoy.wait_for("two")
                await plane.settle(eds_cluster("one"), endpoints("one", one), web, routes("web", "one"))
                await envoy.wait_for("one")
        assert set(traffic.answers) == {"one", "two"}


async def test_a_changed_cluster_is_warm_at_once(envoy: Lab) -> None:
    plane = envoy.control_plane
    async with backend("one") as one:
        rest = (endpoints("one", one), envoy.listener("web"), routes("web", "one"))
        await plane.settle(eds_cluster("one"), *rest)
        await envoy.wait_for("one")
        async with Traffic(envoy).flowing() as traffic:
            # Well under the 15 s that Envoy would wait for endpoints that nobody sends again.
            await plane.settle(eds_cluster("one", 6), *rest, seconds=12)
            await plane.settle(eds_cluster("one", 7), *rest, seconds=12)
        assert set(traffic.answers) == {"one"}


async def test_a_bad_listener_is_named_and_the_others_work(envoy: Lab) -> None:
    plane = envoy.control_plane
    async with backend("one") as one:
        rest = (eds_cluster("one"), endpoints("one", one), routes("web", "one"), routes("bad", "one"))
        plane.snapshots.latest.set(snapshot([*rest, envoy.listener("web"), envoy.listener("bad", broken=True)]))
        await plane.until(lambda: (status := plane.statuses.get(NODE)) and status.refusals)
        await envoy.wait_for("one", "web")
        assert await envoy.answer("bad") == "closed"
        (refusal,) = plane.statuses.all()[0].refusals
        assert refusal.name == "bad"
        assert "malformed IP address" in refusal.message
        assert "VirtualService/shop/bad (shop.yaml:1:1)" in str(refusal)
        assert plane.statuses.all()[0].state.value == "ERROR"
        await plane.settle(*rest, envoy.listener("web"), envoy.listener("bad"))
        assert plane.statuses.all()[0].refusals == ()
        await envoy.wait_for("one", "bad")


async def test_a_refused_route_leaves_the_last_good_one_and_its_cluster(envoy: Lab) -> None:
    plane = envoy.control_plane
    async with backend("one") as one, backend("two") as two:
        web = envoy.listener("web")
        await plane.settle(eds_cluster("one"), endpoints("one", one), web, routes("web", "one"))
        await envoy.wait_for("one")
        broken = routes("web", "")
        async with Traffic(envoy).flowing() as traffic:
            plane.snapshots.latest.set(snapshot([eds_cluster("two"), endpoints("two", two), web, broken]))
            await plane.until(lambda: (status := plane.statuses.get(NODE)) and status.refusals)
            await asyncio.sleep(0.2)
        assert set(traffic.answers) == {"one"}
        await plane.settle(eds_cluster("two"), endpoints("two", two), web, routes("web", "two"))
        await envoy.wait_for("two")


async def test_a_restarted_control_plane_is_in_sync_again_and_traffic_goes_on(envoy: Lab) -> None:
    plane = envoy.control_plane
    async with backend("one") as one, backend("two") as two:
        web = envoy.listener("web")
        before = (eds_cluster("one"), endpoints("one", one), web, routes("web", "one"))
        await plane.settle(*before)
        await envoy.wait_for("one")
        async with Traffic(envoy).flowing() as traffic:
            await plane.stop()
            await asyncio.sleep(0.5)
            await plane.start()
            await plane.until(lambda: plane.in_sync_with(snapshot(before).version))
        assert set(traffic.answers) == {"one"}
        await plane.stop()
        plane.snapshots.latest.set(snapshot([eds_cluster("two"), endpoints("two", two), web, routes("web", "two")]))
        await plane.start()
        await plane.until(lambda: plane.in_sync_with(plane.snapshots.latest.value.version))
        await envoy.wait_for("two")
        await eventually(envoy.clusters, {"two", "control-plane"})


async def test_removed_listeners_close(envoy: Lab) -> None:
    plane = envoy.control_plane
    async with backend("one") as one:
        rest = (eds_cluster("one"), endpoints("one", one))
        await plane.settle(*rest, envoy.listener("web"), routes("web", "one"))
        await envoy.wait_for("one")
        await plane.settle()
        await envoy.wait_for("closed")


async def test_what_a_removed_listener_still_answers_needs_is_there_until_it_is_gone(envoy: Lab) -> None:
    plane = envoy.control_plane
    async with backend("one") as one:
        web = envoy.listener("web", discovered="web/rbac")
        all_of_it = (eds_cluster("one"), endpoints("one", one), web, routes("web", "one"), rbac("web/rbac"))
        for _ in range(2):
            await plane.settle(*all_of_it)
            await envoy.wait_for("one")
            async with envoy.client("web") as standing:
                assert (await standing.get("/")).text == "one"
                await plane.settle()
                await envoy.wait_for("closed")
                assert (await standing.get("/")).text == "one"
        await eventually(envoy.clusters, {"control-plane"})
        await plane.until(lambda: not any(found.acked for found in plane.statuses.all()[0].types.values()))
        await plane.settle(*all_of_it)
        await envoy.wait_for("one")
