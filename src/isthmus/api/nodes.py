"""Other machines over the private API: what ``isthmus node`` asks of a running control plane."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from isthmus.errors import Refused, VerificationFailed


class Machines(Protocol):
    """What these requests are of. Each raises Refused or VerificationFailed, with the reason."""

    def nodes(self) -> list[dict[str, Any]]:
        """Every machine that joined, is expected, or was put out."""

    def invite(self, node: str, scope: str, ttl_seconds: int) -> dict[str, Any]:
        """A join token: {token, control_plane, expires}."""

    def evict(self, node: str) -> dict[str, Any]:
        """Put a machine out: {revoked: how many certificates of its proxies}."""


def node_routes(machines: Machines) -> list[Route]:
    """For the private socket alone."""

    async def listed(_: Request) -> Response:
        return JSONResponse(machines.nodes())

    async def invite(request: Request) -> Response:
        try:
            body = await request.json()
            node, scope, seconds = str(body["node"]), str(body["scope"]), int(body["ttl_seconds"])
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": "the body is not {node, scope, ttl_seconds}"}, status_code=400)
        try:
            return JSONResponse(machines.invite(node, scope, seconds))
        except (Refused, VerificationFailed) as refused:
            return JSONResponse({"error": str(refused)}, status_code=409)

    async def evict(request: Request) -> Response:
        try:
            return JSONResponse(machines.evict(request.path_params["node"]))
        except (Refused, VerificationFailed) as refused:
            return JSONResponse({"error": str(refused)}, status_code=404)

    return [
        Route("/v1/nodes", listed),
        Route("/v1/nodes/tokens", invite, methods=["POST"]),
        Route("/v1/nodes/{node}", evict, methods=["DELETE"]),
    ]
