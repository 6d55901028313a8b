"""Drift over the private API: what ``isthmus drift --live`` asks of a running control plane."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class Found(Protocol):
    def as_json(self) -> dict[str, str]: ...


def drift_routes(fresh: Callable[[], Awaitable[Sequence[Found]]]) -> list[Route]:
    """``fresh``: what differs, after a look of now."""

    async def listed(_: Request) -> Response:
        return JSONResponse([one.as_json() for one in await fresh()])

    return [Route("/v1/drift", listed)]
