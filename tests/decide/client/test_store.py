from __future__ import annotations

import asyncio
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from isthmus.consumer.key import ApiKey
from isthmus.consumer.record import KeyRecord
from isthmus.consumer.store import CredentialStore
from isthmus.decide.client.store import StoreReader
from isthmus.errors import CredentialsUnavailable

KEY = ApiKey.make()
RECORD = KeyRecord(KEY.id, "shop/mobile", KEY.digest, datetime(2026, 5, 1, tzinfo=UTC))


async def test_opened_once_and_anew_when_replaced(tmp_path: Path) -> None:
    opened: list[int] = []
    file = tmp_path / "credentials" / "keys.sqlite"

    def open_store() -> CredentialStore:
        opened.append(threading.get_ident())
        return CredentialStore.at_file(file)

    reader = StoreReader(open_store)
    before, *_ = await asyncio.gather(*(reader.position() for _ in range(8)))
    assert len(opened) == 1
    assert opened[0] != threading.get_ident()
    store = CredentialStore.at_file(file)
    store.add(RECORD)
    store.close()
    assert await reader.find(KEY.id) == RECORD
    assert (await reader.changes(before)).ids == {KEY.id}
    shutil.rmtree(file.parent)
    assert await reader.find(KEY.id) is None
    assert len(opened) == 2
    await reader.close()


async def test_what_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "keys.sqlite").mkdir()
    reader = StoreReader(lambda: CredentialStore.at_file(tmp_path / "keys.sqlite"))
    with pytest.raises(CredentialsUnavailable):
        await reader.find(KEY.id)
    (tmp_path / "keys.sqlite").rmdir()
    assert await reader.find(KEY.id) is None
    await reader.close()
