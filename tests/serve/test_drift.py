from __future__ import annotations

import asyncio
import base64
import json
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from isthmus.control.nodes import Nodes
from isthmus.errors import EnvoyFailed
from isthmus.proxy.place import Folders
from isthmus.serve.drift import Looks
from tests.control.test_nodes import Files
from tests.control.test_remote import EDGE
from tests.drift.looking import wanted

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SAYS = {"dump": "{}", "state": "LIVE", "options": {}, "listeners_stopped": 0, "loudest": "warning"}


async def look(says: dict[str, Any]) -> Any:
    """What is read of what the machine of a gateway says."""
    nodes = Nodes(Files(), lambda: NOW)
    nodes.admit("edge-1", EDGE.scope)
    session = nodes.begin("edge-1", EDGE, EDGE.address)
    looks = Looks(Folders(Path("/state"), Path("/run/isthmus")), nodes)
    looking = asyncio.create_task(looks(wanted(machine="edge-1"), ""))
    question = await session.questions.get()
    content = base64.b64encode(zlib.compress(json.dumps(says).encode())).decode()
    nodes.answered(session, question["look"]["id"], json.dumps({"content": content}))
    return (await looking)()


async def test_what_another_machine_says_is_read() -> None:
    assert (await look(SAYS)).state == "LIVE"


@pytest.mark.parametrize(
    "part",
    [
        pytest.param({"dump": "\ud800"}, id="half of a surrogate pair"),
        pytest.param({"dump": '{"configs": [{"@type": 5}]}'}, id="a type that is a number"),
        pytest.param({"dump": '{"configs": [{"@type": "\\ud800"}]}'}, id="a type that is no text"),
        pytest.param({"dump": '{"configs": 1e999}'}, id="a number without end"),
        pytest.param({"listeners_stopped": float("inf")}, id="closed without end"),
    ],
)
async def test_what_cannot_be_read_is_a_machine_that_does_not_say(part: dict[str, Any]) -> None:
    with pytest.raises(EnvoyFailed, match="cannot be read"):
        await look(SAYS | part)
