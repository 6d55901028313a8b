"""Played: what is asked, what changes meanwhile, what is answered."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from isthmus.consumer.record import Changes, KeyRecord, Position
from isthmus.decide.client.known import AWAY_SECONDS, FRESH_SECONDS, KnownKeys
from isthmus.errors import CredentialsOutOfReach, CredentialsUnavailable

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def record(key_id: str, revoked: bool = False) -> KeyRecord:
    return KeyRecord(key_id, "shop/mobile", b"", NOW, revoked=NOW if revoked else None)


class Source:
    """A store in memory; ``gate``: what a lookup waits for after it has read."""

    def __init__(self) -> None:
        self.records: dict[str, KeyRecord] = {}
        self.log: list[str | None] = []
        self.asked: list[str] = []
        self.looked = 0
        self.gate: asyncio.Event | None = None
        self.broken = False
        self.away = False

    def write(self, one: KeyRecord) -> None:
        self.records[one.id] = one
        self.log.append(one.id)

    async def find(self, key_id: str) -> KeyRecord | None:
        self._check()
        self.asked.append(key_id)
        found = self.records.get(key_id)
        if self.gate is not None:
            await self.gate.wait()
        return found

    async def position(self) -> Position:
        self._check()
        self.looked += 1
        return Position("store", len(self.log))

    async def changes(self, since: Position) -> Changes:
        self._check()
        self.looked += 1
        new = self.log[since.sequence :]
        ids = None if None in new else frozenset(one for one in new if one is not None)
        return Changes(Position("store", len(self.log)), ids)

    def _check(self) -> None:
        if self.away:
            raise CredentialsOutOfReach("away")
        if self.broken:
            raise CredentialsUnavailable("gone")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_asked_once(source: Source, clock: Clock) -> None:
    source.write(record("a"))
    keys = KnownKeys(source, clock)
    assert [await keys.find("a") for _ in range(3)] == [record("a")] * 3
    assert [await keys.find("b") for _ in range(3)] == [None] * 3
    assert source.asked == ["a", "b"]


async def test_what_changes_is_asked_anew_and_nothing_else(source: Source, clock: Clock) -> None:
    source.write(record("a"))
    source.write(record("b"))
    keys = KnownKeys(source, clock)
    for one in "abc":
        await keys.find(one)
    source.write(record("a", revoked=True))
    source.write(record("c"))
    await keys.look()
    assert await keys.find("a") == record("a", revoked=True)
    assert await keys.find("c") == record("c")
    assert await keys.find("b") == record("b")
    assert source.asked == ["a", "b", "c", "a", "c"]


async def test_a_change_of_anything_forgets_everything(source: Source, clock: Clock) -> None:
    source.write(record("a"))
    keys = KnownKeys(source, clock)
    await keys.find("a")
    source.log.append(None)
    await keys.look()
    assert len(keys) == 0
    await keys.find("a")
    assert source.asked == ["a", "a"]


async def test_memory_is_believed_only_while_the_log_is_read(source: Source, clock: Clock) -> None:
    source.write(record("a"))
    keys = KnownKeys(source, clock)
    await keys.find("a")
    source.write(record("a", revoked=True))
    clock.now += FRESH_SECONDS + 0.1
    assert await keys.find("a") == record("a", revoked=True), "nobody had looked: it looks first"
    source.broken = True
    assert await keys.find("a") == record("a", revoked=True)
    clock.now += FRESH_SECONDS + 0.1
    with pytest.raises(CredentialsUnavailable):
        await keys.find("a")
    source.broken = False
    assert await keys.find("a") == record("a", revoked=True)


async def test_an_answer_that_was_overtaken_is_not_kept(source: Source, clock: Clock) -> None:
    source.write(record("a"))
    keys = KnownKeys(source, clock)
    await keys.look()
    source.gate = asyncio.Event()
    asking = asyncio.create_task(keys.find("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert source.asked == ["a"]
    source.write(record("a", revoked=True))
    await keys.look()
    source.gate.set()
    await asking
    assert await keys.find("a") == record("a", revoked=True)


async def test_many_who_ask_the_same_ask_once(source: Source, clock: Clock) -> None:
    source.write(record("a"))
    keys = KnownKeys(source, clock)
    source.gate = asyncio.Event()
    asking = [asyncio.create_task(keys.find("a")) for _ in range(50)]
    await asyncio.sleep(0.01)
    asking[0].cancel()
    source.gate.set()
    assert await asyncio.gather(*asking[1:]) == [record("a")] * 49
    assert source.asked == ["a"]
    assert source.looked == 1


async def test_unknown_ids_push_nobody_out(source: Source, clock: Clock) -> None:
    source.write(record("a"))
    keys = KnownKeys(source, clock, known=10, unknown=10)
    await keys.find("a")
    for number in range(100):
        await keys.find(f"made-up-{number}")
    await keys.find("a")
    assert source.asked.count("a") == 1
    assert len(keys) == 11


async def test_what_is_known_is_bounded(source: Source, clock: Clock) -> None:
    for number in range(20):
        source.write(record(str(number)))
    keys = KnownKeys(source, clock, known=10)
    for number in range(20):
        await keys.find(str(number))
        await keys.find("0")
    assert len(keys) == 10
    assert source.asked.count("0") == 1, "who is asked for is kept"


async def test_not_too_many_at_once(source: Source, clock: Clock) -> None:
    keys = KnownKeys(source, clock)
    await keys.look()
    source.gate = asyncio.Event()
    asking = [asyncio.create_task(keys.find(str(number))) for number in range(300)]
    await asyncio.sleep(0.01)
    refused = [task for task in asking if task.done()]
    assert len(refused) == 44
    assert all(isinstance(task.exception(), CredentialsUnavailable) for task in refused)
    source.gate.set()
    assert await asyncio.gather(*(task for task in asking if task not in refused)) == [None] * 256


async def test_a_store_that_failed_is_asked_again(source: Source, clock: Clock) -> None:
    keys = KnownKeys(source, clock)
    source.broken = True
    with pytest.raises(CredentialsUnavailable):
        await keys.find("a")
    source.broken = False
    source.write(record("a"))
    assert await keys.find("a") == record("a")


async def out_of_reach(keys: KnownKeys, key_id: str) -> bool:
    try:
        await keys.find(key_id)
    except CredentialsOutOfReach:
        return True
    return False


async def test_who_was_known_is_believed_for_a_while_without_contact(source: Source, clock: Clock) -> None:
    source.write(record("a"))
    source.write(record("b"))
    keys = KnownKeys(source, clock)
    await keys.find("a")
    await keys.find("made-up")
    source.away = True
    clock.now += FRESH_SECONDS + 0.1
    assert await keys.find("a") == record("a")
    looked = source.looked
    clock.now += AWAY_SECONDS - 1
    assert await keys.find("a") == record("a")
    assert source.looked == looked, "whoever is known to be away holds up no request"
    assert await out_of_reach(keys, "b"), "it was not known"
    assert await out_of_reach(keys, "made-up"), "it may have been made since"
    clock.now += 1
    assert await out_of_reach(keys, "a")
    source.away = False
    source.write(record("a", revoked=True))
    await keys.look()
    assert await keys.find("a") == record("a", revoked=True)
    assert await keys.find("b") == record("b")


async def test_a_look_at_any_time_starts_it_anew(source: Source, clock: Clock) -> None:
    source.write(record("a"))
    keys = KnownKeys(source, clock)
    await keys.find("a")
    for _ in range(3):
        source.away = True
        clock.now += AWAY_SECONDS - 1
        assert await keys.find("a") == record("a")
        source.away = False
        await keys.look()


async def test_who_never_was_in_contact_believes_nothing(source: Source, clock: Clock) -> None:
    source.away = True
    keys = KnownKeys(source, clock)
    assert await out_of_reach(keys, "a")
    assert await out_of_reach(keys, "a")


async def test_who_answers_and_refuses_is_not_away(source: Source, clock: Clock) -> None:
    source.write(record("a"))
    keys = KnownKeys(source, clock)
    await keys.find("a")
    source.broken = True
    clock.now += FRESH_SECONDS + 0.1
    with pytest.raises(CredentialsUnavailable):
        await keys.find("a")
    source.away = True
    assert await out_of_reach(keys, "a"), "what was refused before is not to be had by going away"
    source.broken = source.away = False
    await keys.look()
    assert await keys.find("a") == record("a")


async def test_changes_may_name_keys_their_own_way(source: Source, clock: Clock) -> None:
    source.write(record("a"))
    keys = KnownKeys(source, clock, named=lambda key_id: f"<{key_id}>")
    assert await keys.find("a") == record("a")
    assert await keys.find("b") is None
    source.write(record("a", revoked=True))
    source.log[-1] = "<a>"
    await keys.look()
    assert await keys.find("a") == record("a", revoked=True)
    assert source.asked == ["a", "b", "a"]
