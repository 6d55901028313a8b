"""The HTTP API of a running control plane.

On the Unix socket (0600, in a 0700 folder) the whole of it; on the loopback port, which any local process reaches, only
health, readiness and metrics.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from isthmus.errors import EnvoyFailed, NotEnrolled, Refused, VerificationFailed

_LONG_POLL_SECONDS = 20.0
_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


class ControlPlane(Protocol):
    """What the API asks of the process that it stands in."""

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether every proxy is in sync, and the ready document (or what is still missing)."""

    async def plan_after(self, version: int) -> dict[str, Any]: ...
    def join_token(self, node: str) -> str: ...
    def programs_listen(self, proxies: list[str]) -> None:
        """The supervisor says whose local programs (by the ids of their sidecars) take connections."""

    def proxies(self) -> list[dict[str, Any]]: ...
    def metrics(self) -> str:
        """The control plane's own, in Prometheus' text form."""

    async def proxy_metrics(self, proxy: str) -> str | None:
        """Those of one proxy; None: there is none here. Raises EnvoyFailed."""

    def metric_targets(self) -> list[dict[str, Any]]:
        """Where each proxy's metrics are, as Prometheus' ``http_sd_configs`` takes it."""

    def proxy_config(self, proxy: str) -> dict[str, Any] | None: ...
    def diagnostics(self) -> list[dict[str, Any]]: ...
    def add_workload(
        self, namespace: str, service_account: str, labels: dict[str, str], network: str, pid: int | None = None
    ) -> str:
        """Add a workload for ``isthmus run`` (process ``pid``); answer its name. Raises Refused."""

    def hold_workload(self, namespace: str, name: str, pid: int | None = None) -> None:
        """Hold one that is there already, once more. Raises Refused."""

    async def workload_environment(self, namespace: str, name: str) -> dict[str, str]:
        """Its environment, once its sidecar is in sync."""

    def remove_workload(self, namespace: str, name: str) -> None:
        """Let go of it; it ends when nobody holds it."""


def build_private(plane: ControlPlane, more: Sequence[Route] = ()) -> Starlette:
    """The whole API, for the Unix socket; ``more``: of other modules."""
    endpoints = _Endpoints(plane)
    return Starlette(
        routes=[
            *_public_routes(endpoints),
            Route("/v1/ready", endpoints.ready),
            Route("/v1/plan", endpoints.plan),
            Route("/v1/join-tokens", endpoints.join_token, methods=["POST"]),
            Route("/v1/programs", endpoints.programs, methods=["PUT"]),
            Route("/v1/proxies", endpoints.proxies),
            Route("/v1/proxies/{proxy:path}/config", endpoints.config),
            Route("/v1/diagnostics", endpoints.diagnostics),
            Route("/v1/workloads", endpoints.workload, methods=["POST"]),
            *more,
        ],
        exception_handlers={_Malformed: _malformed},
    )


def build_public(plane: ControlPlane) -> Starlette:
    """Health, readiness and metrics, for the loopback port."""
    return Starlette(routes=_public_routes(_Endpoints(plane)))


def _public_routes(endpoints: _Endpoints) -> list[Route]:
    return [
        Route("/healthz", endpoints.healthy),
        Route("/readyz", endpoints.readiness),
        Route("/metrics", endpoints.metrics),
        Route("/metrics/proxies/{proxy:path}", endpoints.proxy_metrics),
        Route("/discovery/prometheus", endpoints.metric_targets),
    ]


class _Malformed(Exception):
    """A request that is none of this API's."""


async def _malformed(request: Request, wrong: Exception) -> Response:
    return JSONResponse({"error": str(wrong)}, status_code=400)


async def _body(request: Request, **fields: type) -> dict[str, Any]:
    """The request's JSON object; raises _Malformed unless each of ``fields`` is there and of its type."""
    try:
        body = await request.json()
    except ValueError:
        raise _Malformed("the body is not JSON") from None
    for name, kind in fields.items():
        if not isinstance(body, dict) or not isinstance(body.get(name), kind):
            raise _Malformed(f'the body has no "{name}", or one of the wrong type')
    found: dict[str, Any] = body
    return found


class _Endpoints:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def healthy(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readiness(self, request: Request) -> Response:
        ready, _ = self._plane.ready()
        return PlainTextResponse("ready\n" if ready else "not in sync\n", status_code=200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(self._plane.metrics(), media_type=_EXPOSITION)

    async def proxy_metrics(self, request: Request) -> Response:
        try:
            found = await self._plane.proxy_metrics(request.path_params["proxy"])
        except EnvoyFailed as failed:
            return PlainTextResponse(f"{failed}\n", status_code=503)
        if found is None:
            return PlainTextResponse("no such proxy\n", status_code=404)
        return Response(found, media_type=_EXPOSITION)

    async def metric_targets(self, request: Request) -> Response:
        return JSONResponse(self._plane.metric_targets())

    async def ready(self, request: Request) -> Response:
        ready, document = self._plane.ready()
        return JSONResponse(document, status_code=200 if ready else 503)

    async def plan(self, request: Request) -> Response:
        """The plan, once it is another than ``?after=VERSION``; 204 when nothing changed for a while."""
        try:
            after = int(request.query_params.get("after", "-1"))
        except ValueError:
            raise _Malformed("after is the number of a version") from None
        try:
            async with asyncio.timeout(_LONG_POLL_SECONDS):
                return JSONResponse(await self._plane.plan_after(after))
        except (TimeoutError, asyncio.CancelledError):
            # Cancelled: the server ends, and whoever waits is to ask the next one.
            return Response(status_code=204)

    async def join_token(self, request: Request) -> Response:
        body = await _body(request, node=str)
        try:
            return JSONResponse({"token": self._plane.join_token(body["node"])})
        except VerificationFailed as wrong:
            raise _Malformed(str(wrong)) from wrong

    async def programs(self, request: Request) -> Response:
        body = await _body(request, listening=list)
        self._plane.programs_listen([str(proxy) for proxy in body["listening"]])
        return Response(status_code=204)

    async def proxies(self, request: Request) -> Response:
        return JSONResponse(self._plane.proxies())

    async def config(self, request: Request) -> Response:
        found = self._plane.proxy_config(request.path_params["proxy"])
        if found is None:
            return JSONResponse({"error": "no such proxy"}, status_code=404)
        return JSONResponse(found)

    async def diagnostics(self, request: Request) -> Response:
        return JSONResponse(self._plane.diagnostics())

    async def workload(self, request: Request) -> Response:
        """A workload that lives as long as this request: the first line says how to run in it.

        ``name``: one that is there already. So a command holds its own again when the control plane is started anew.
        """
        body = await _body(request, namespace=str, service_account=str, labels=dict)
        namespace, name = body["namespace"], body.get("name")
        pid = body["pid"] if isinstance(body.get("pid"), int) else None
        try:
            network = body.get("network", "Host")
            if name is None:
                name = self._plane.add_workload(namespace, body["service_account"], body["labels"], network, pid)
            else:
                self._plane.hold_workload(namespace, str(name), pid)
        except (Refused, NotEnrolled) as refused:
            return JSONResponse({"error": str(refused)}, status_code=409)
        return StreamingResponse(self._hold(request, namespace, name), media_type="application/jsonl")

    async def _hold(self, request: Request, namespace: str, name: str) -> AsyncIterator[str]:
        try:
            env = await self._plane.workload_environment(namespace, name)
            yield json.dumps({"name": name, "env": env}) + "\n"
            while not await request.is_disconnected():
                await asyncio.sleep(0.5)
                yield "\n"
        finally:
            self._plane.remove_workload(namespace, name)
