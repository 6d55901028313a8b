"""How ``orders`` calls the other services: plain HTTP by their mesh names, through the proxy of its environment."""

from __future__ import annotations

import os
from typing import Any

import httpx
from starlette.datastructures import Headers

_HOST = "http://{service}.shop.svc.cluster.local:8080"
_TIMEOUT_SECONDS = 5.0
_PASSED_ON = frozenset(
    (
        "authorization",
        "traceparent",
        "tracestate",
        "x-request-id",
        "b3",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-parentspanid",
        "x-b3-sampled",
        "x-b3-flags",
    )
)
"""The user's token, which the next service wants to see, and what joins the calls of one request in traces."""


class PeerFailed(Exception):
    """Another service did not answer as hoped. ``status``: what it, or a proxy on the way, answered; None: nothing."""

    def __init__(self, service: str, status: int | None, reason: str) -> None:
        super().__init__(f"{service}: {reason}")
        self.status = status
        self.reason = reason


class Peer:
    """A service of the shop. ``<SERVICE>_URL`` in the environment: where it is, if not behind its mesh name."""

    def __init__(self, service: str, client: httpx.AsyncClient) -> None:
        self._service = service
        self._client = client
        self._base = os.environ.get(f"{service.upper()}_URL", _HOST.format(service=service))

    async def get(self, path: str, headers: Headers) -> dict[str, Any]:
        return await self._ask("GET", path, headers)

    async def post(self, path: str, headers: Headers, body: dict[str, Any]) -> dict[str, Any]:
        return await self._ask("POST", path, headers, body)

    async def _ask(self, method: str, path: str, headers: Headers, body: Any = None) -> dict[str, Any]:
        """Raises PeerFailed."""
        passed_on = {name: value for name, value in headers.items() if name in _PASSED_ON}
        try:
            response = await self._client.request(method, f"{self._base}{path}", headers=passed_on, json=body)
        except httpx.HTTPError as fault:
            raise PeerFailed(self._service, None, type(fault).__name__) from fault
        if response.is_error:
            raise PeerFailed(self._service, response.status_code, _reason(response))
        answer: dict[str, Any] = response.json()
        return answer


def http_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=True)


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
