"""The process of the limit service, without its socket."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from isthmus.limit.count import Nobody, Now
from isthmus.limit.definition import Definition, to_json
from isthmus.limit.server import connect, start
from isthmus.limit.store import QuotaStore
from tests.limit.playbook import Clock, quota
from tests.limit.test_service import OK, OVER, Service


class Today(Clock):
    """What the server itself takes for now."""

    @property
    def now(self) -> Now:
        return Now(time.monotonic(), datetime.now(UTC))


def settings(*definitions: Definition) -> dict[str, Any]:
    return {"limits": [to_json(one) for one in definitions], "stores": {}}


async def test_quotas_are_there_after_a_restart(tmp_path: Path) -> None:
    for expected in ([OK], [OK], [OVER]):
        server = await start(settings(Definition("d", quota(2))), tmp_path)
        asking = Service(Today())
        asking.service = server._service
        assert await asking.codes(1, (("limit", "d"),)) == expected
        await server.close()
        assert QuotaStore(tmp_path).read()


async def test_a_state_that_cannot_be_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "limits").write_text("in the way")
    server = await start(settings(Definition("d", quota(2))), tmp_path)
    assert "quotas begin anew" in caplog.text
    asking = Service()
    asking.service = server._service
    assert await asking.codes(1, (("limit", "d"),)) == [OK]
    await server.close()
    assert "would be forgotten" in caplog.text


async def test_settings_that_cannot_be_read_change_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = await start(settings(Definition("d", quota(2))), tmp_path)
    await server.update({"limits": [{"id": "d"}], "stores": {}})
    assert "KeyError" in caplog.text
    asking = Service(Today())
    asking.service = server._service
    assert await asking.codes(1, (("limit", "d"),)) == [OK]
    await server.close()


async def test_a_url_of_something_else_counts_nothing() -> None:
    assert isinstance(connect("https://example.com"), Nobody)
    assert not isinstance(connect("redis://example.com"), Nobody)


async def test_of_a_flood_of_names_nothing_is_left_to_write_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "limits").write_text("in the way")
    server = await start(settings(Definition("d", quota(2))), tmp_path)
    server._memory._chosen._most = 10
    server._memory._verified._most = 10
    asking = Service(Today())
    asking.service = server._service
    for number in range(100):
        assert await asking.codes(1, (("limit", "d"), ("who", str(number)))) == [OK]
        server._write()
    assert len(server._unwritten) <= 10
    await server.close()


async def test_what_was_written_and_is_forgotten_is_removed(tmp_path: Path) -> None:
    for _ in range(2):
        server = await start(settings(Definition("d", quota(2))), tmp_path)
        server._memory._chosen._most = 2
        server._memory._verified._most = 2
        asking = Service(Today())
        asking.service = server._service
        for name in ("a", "b", "c"):
            assert await asking.codes(1, (("limit", "d"), ("who", name))) == [OK]
            server._write()
        await server.close()
        assert len(QuotaStore(tmp_path).read()) == 2
