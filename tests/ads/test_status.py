from __future__ import annotations

import asyncio

from isthmus.ads.status import Statuses, SyncState

from .playbook import Playbook, listener, playbook, settled


def test_a_proxy_in_one_word() -> None:
    book = playbook(listener("web"))
    assert word(book) is SyncState.NOT_SENT
    book.ask("CDS")
    assert word(book) is SyncState.STALE
    book.ack("CDS")
    assert word(book) is SyncState.STALE
    book.ask("LDS")
    book.ack("LDS")
    assert word(book) is SyncState.SYNCED
    book.publish(listener("web", 2))
    book.nack("LDS")
    assert word(book) is SyncState.ERROR


def word(book: Playbook) -> SyncState:
    return book.stream.status().state


def test_statuses_are_kept_by_proxy_until_it_goes() -> None:
    statuses = Statuses()
    status = settled().stream.status()
    statuses.put(status)
    assert statuses.get("gateway~shop~web") is status
    assert statuses.all() == (status,)
    statuses.drop("gateway~shop~web")
    statuses.drop("gateway~shop~web")
    assert statuses.get("gateway~shop~web") is None
    assert statuses.version == 2


async def test_who_waits_is_woken_by_a_change_and_by_nothing_else() -> None:
    statuses = Statuses()
    book = settled(listener("web"))
    statuses.put(book.stream.status())
    waiting = asyncio.create_task(statuses.after(statuses.version))
    statuses.put(book.stream.status())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    book.publish(listener("web", 2))
    statuses.put(book.stream.status())
    assert await waiting == statuses.version == 2
