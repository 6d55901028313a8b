"""The service against a source that does as it is told; nothing waits for real time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isthmus.decide.rego.activation import Wish
from isthmus.decide.rego.fetch import Fetched
from isthmus.decide.rego.keeper import FETCHES, BundleService, BundleStatus
from isthmus.decide.rego.signature import Key, Verifier
from isthmus.decide.rego.source import Policy
from isthmus.decide.rego.store import BundleStore
from isthmus.errors import RegoBundleRefused
from isthmus.model.rego_bundle import BundleSource, bundle_file
from isthmus.state import StateDir
from tests.decide.rego.packing import Signer, pack, users

NOW = datetime(2026, 11, 21, tzinfo=UTC)
FAST = BundleSource(
    "https://bundles.example/b.tar.gz", shortest=timedelta(milliseconds=5), longest=timedelta(milliseconds=5)
)
WISH = Wish("shop/authz", FAST, "envoy/authz/allow", token="secret")
ALICE, BOB = pack(users("alice")), pack(users("bob"))


class Source:
    """Has ``packed``, or fails with ``error``. A tag is the content's own hash."""

    def __init__(self) -> None:
        self.packed = ALICE
        self.error = ""
        self.holds = False
        self.asked: Counter[str] = Counter()

    async def fetch(self, source: BundleSource, token: str | None, tag: str | None) -> Fetched:
        assert (source.location, token) == (FAST.location, "secret")
        if self.error:
            raise RegoBundleRefused(self.error)
        now = str(hash(self.packed))
        self.asked["same" if tag == now else "new"] += 1
        return Fetched(None if tag == now else self.packed, now, self.holds)


class Engine:
    """Compiles everything but what is of a revision in ``broken``."""

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}

    async def __call__(self, policy: Policy, path: str) -> str | None:
        assert policy.name == "shop/authz"
        return self.broken.get(policy.bundles["shop/authz"]) or ("there is no such rule" if path == "other" else None)


class World:
    def __init__(self, folder: Path) -> None:
        self.source, self.engine = Source(), Engine()
        self.store = BundleStore(StateDir.at(folder).open())
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.begin()

    def begin(self) -> None:
        """Another run."""
        clock = lambda: datetime.now(UTC)  # noqa: E731
        self.service = BundleService(self.source, self.store, self.engine, clock, lambda: 0.0, self.counts)

    @property
    def status(self) -> BundleStatus:
        return self.service.status.value["shop/authz"]

    @property
    def revision(self) -> str | None:
        return self.status.active.revision if self.status.active is not None else None

    async def until(self, check: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not check():
                await asyncio.sleep(0.002)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.service.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "state")


async def test_the_newest_good_one_is_in_force(world: World) -> None:
    world.service.watch(frozenset({WISH}))
    assert (world.revision, world.status.error) == (None, "not fetched yet")
    async with world.running():
        await world.until(lambda: world.revision == "alice")
        assert (world.status.error, world.status.since is not None) == (None, True)
        world.source.packed = BOB
        await world.until(lambda: world.revision == "bob")
        await world.until(lambda: world.source.asked["same"] > 2)
    assert world.source.asked["new"] == 2
    assert world.counts[FETCHES, "shop/authz", "success"] == 2
    assert world.counts[FETCHES, "shop/authz", "unchanged"] > 0
    assert world.status.active is not None
    assert world.store.packed(world.status.active.digest) == BOB


async def test_a_server_that_holds_questions_is_asked_again_at_once(world: World) -> None:
    slow = replace(FAST, shortest=timedelta(minutes=10), longest=timedelta(minutes=20))
    world.source.holds = True
    world.service.watch(frozenset({replace(WISH, source=slow)}))
    async with world.running():
        await world.until(lambda: world.revision == "alice")
        world.source.packed = BOB
        await world.until(lambda: world.revision == "bob")
        world.engine.broken["alice"] = "no such builtin"
        world.source.packed = ALICE
        await world.until(lambda: world.status.refused)
        world.source.packed = BOB
        await world.until(lambda: not world.status.refused)


async def test_a_bad_one_changes_nothing_but_what_is_said(world: World) -> None:
    world.service.watch(frozenset({WISH}))
    world.engine.broken["bob"] = "policy.rego:3: no such builtin"
    async with world.running():
        await world.until(lambda: world.revision == "alice")
        world.source.packed = BOB
        await world.until(lambda: world.status.refused)
        assert (world.revision, world.status.error) == ("alice", "policy.rego:3: no such builtin")
        world.source.packed = b"rubbish"
        await world.until(lambda: "not a gzipped tar" in (world.status.error or ""))
        # As long as it is published, it is said.
        same = world.source.asked["same"]
        await world.until(lambda: world.source.asked["same"] > same + 2)
        assert (world.revision, world.status.refused) == ("alice", True)
        world.source.packed = ALICE
        await world.until(lambda: world.status.error is None)
    assert world.counts[FETCHES, "shop/authz", "refused"] == 2


async def test_a_server_that_is_away_and_a_start_meanwhile(world: World) -> None:
    world.service.watch(frozenset({WISH}))
    async with world.running():
        await world.until(lambda: world.revision == "alice")
    world.source.error = "connection refused"
    world.begin()
    world.service.watch(frozenset({WISH}))
    # Before anybody was asked, and before anybody asks.
    assert (world.revision, world.status.since) == ("alice", None)
    async with world.running():
        await world.until(lambda: world.status.error == "connection refused")
        assert (world.revision, world.status.refused) == ("alice", False)
        world.source.error = ""
        await world.until(lambda: world.status.error is None)
    assert world.source.asked["new"] == 1, "it was not fetched again: the tag was kept"


async def test_none_ever(world: World) -> None:
    world.source.error = "status 404"
    world.service.watch(frozenset({WISH}))
    async with world.running():
        await world.until(lambda: world.status.error == "status 404")
    assert world.revision is None


async def test_another_rule_or_other_keys(world: World) -> None:
    world.service.watch(frozenset({WISH}))
    async with world.running():
        await world.until(lambda: world.revision == "alice")
        # What is kept does not have that rule: it may not decide.
        world.service.watch(frozenset({replace(WISH, path="other")}))
        await world.until(lambda: world.status.error == "there is no such rule")
        assert world.revision is None
        # What is kept is not signed: nor may it from the first moment.
        key = Key("default", "RS256", Signer().pem)
        world.service.watch(frozenset({replace(WISH, verifier=Verifier((key,)))}))
        assert world.revision is None
        await world.until(lambda: "not signed" in (world.status.error or ""))
        world.service.watch(frozenset({WISH}))
        assert world.revision == "alice"


async def test_a_secret_that_is_missing(world: World) -> None:
    wish = replace(WISH, token=None, problem="the Secret shop/token has no token")
    world.service.watch(frozenset({wish}))
    async with world.running():
        await asyncio.sleep(0.02)
        assert (world.revision, world.status.error) == (None, "the Secret shop/token has no token")
    assert not world.source.asked


async def test_a_policy_that_went_away(world: World) -> None:
    world.service.watch(frozenset({WISH}))
    async with world.running():
        await world.until(lambda: world.revision == "alice")
        world.service.watch(frozenset())
        assert world.service.status.value == {}
        asked = world.source.asked.total()
        await asyncio.sleep(0.05)
        assert world.source.asked.total() <= asked + 1


async def test_a_state_that_cannot_be_written(world: World) -> None:
    world.service.watch(frozenset({WISH}))
    folder = world.store.state.path / "bundles"
    folder.write_text("in the way")
    async with world.running():
        await world.until(lambda: "cannot be kept" in (world.status.error or ""))
        assert world.revision is None
        folder.unlink()
        await world.until(lambda: world.revision == "alice")


async def test_old_ones_are_removed(world: World) -> None:
    world.service.watch(frozenset({WISH}))
    async with world.running():
        for name in ("a", "b", "c", "d"):
            world.source.packed = pack(users(name))
            await world.until(lambda name=name: world.revision == name)  # type: ignore[misc]
    kept = list((world.store.state.path / "bundles").glob("*.tar.gz"))
    assert len(kept) == 2
    assert world.status.active is not None
    assert world.store.state.within(bundle_file(world.status.active.digest)) in kept


async def test_many_at_once_keep_what_they_fetch(world: World) -> None:
    """What one policy has just written and does not go by yet is not old to another."""
    wishes = [replace(WISH, policy=f"shop/{n}") for n in range(8)]
    turns = 0

    class Changing(Source):
        async def fetch(self, source: BundleSource, token: str | None, tag: str | None) -> Fetched:
            nonlocal turns
            turns += 1
            return Fetched(pack(users(f"user-{turns}")), str(turns))

    async def any_policy(policy: Policy, path: str) -> str | None:
        return None

    clock = lambda: datetime.now(UTC)  # noqa: E731
    service = BundleService(Changing(), world.store, any_policy, clock, lambda: 0.0)
    service.watch(frozenset(wishes))
    task = asyncio.create_task(service.run())
    checks = 0
    while checks < 50:
        await asyncio.sleep(0.01)
        for status in service.status.value.values():
            if status.active is not None:
                assert world.store.has(status.active.digest)
                checks += 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_bundle_that_somebody_took_away_is_fetched_again(world: World) -> None:
    world.service.watch(frozenset({WISH}))
    async with world.running():
        await world.until(lambda: world.revision == "alice")
        assert world.status.active is not None
        file = world.store.state.within(bundle_file(world.status.active.digest))
        file.unlink()
        await world.until(file.exists)
        assert world.status.error is None
