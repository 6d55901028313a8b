from __future__ import annotations

from dataclasses import dataclass

import httpx
from starlette.applications import Starlette

from isthmus.api.drift import drift_routes


@dataclass(frozen=True)
class Found:
    def as_json(self) -> dict[str, str]:
        return {"kind": "listener"}


async def fresh() -> list[Found]:
    return [Found()]


async def test_what_differs() -> None:
    transport = httpx.ASGITransport(Starlette(routes=drift_routes(fresh)))
    async with httpx.AsyncClient(transport=transport, base_url="http://plane") as client:
        assert (await client.get("/v1/drift")).json() == [{"kind": "listener"}]
