"""Fetching lists and answers over HTTP, with a limit on everything that the other side chooses.

They are signed, so plain http is as good as https: it is what CAs publish over (RFC 5280, section 4.2.1.13).
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import httpx

from isthmus.errors import RevocationUnavailable
from isthmus.revocation.source import OCSP_REQUEST_TYPE

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_LOOPBACK_MOUNTS: Final = {"all://localhost": None, "all://127.0.0.1": None, "all://[::1]": None}
"""A proxy of the environment is never asked for this machine itself."""


class Fetcher(Protocol):
    async def fetch(self, url: str, body: bytes | None, within: timedelta | None = None) -> bytes:
        """GET ``url``, or POST an OCSP request to it. Raises RevocationUnavailable with the reason."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one fetch, redirects included; ``total`` where the caller says nothing."""

    total: timedelta = timedelta(seconds=10)
    connect: timedelta = timedelta(seconds=3)
    max_body_bytes: int = 32 << 20
    """The largest CRLs of public CAs have some tens of megabytes."""
    max_answer_bytes: int = 64 << 10
    """Of an OCSP response."""
    max_redirects: int = 3


class HttpFetcher:
    """The :class:`Fetcher` of the control plane and of the node's agent."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._trust: ssl.SSLContext | None = None

    async def fetch(self, url: str, body: bytes | None, within: timedelta | None = None) -> bytes:
        seconds = (within or self._limits.total).total_seconds()
        try:
            async with asyncio.timeout(seconds), self._client(seconds) as client:
                return await self._answer(client, _parse(url), body)
        except TimeoutError:
            raise RevocationUnavailable(f"no whole answer in {seconds:g} s") from None

    def _client(self, seconds: float) -> httpx.AsyncClient:
        if self._trust is None:
            self._trust = ssl.create_default_context()
        return httpx.AsyncClient(
            verify=self._trust,
            timeout=httpx.Timeout(seconds, connect=self._limits.connect.total_seconds()),
            # Unpacking is where a small answer becomes a huge one, so nothing packed is asked for.
            headers={"accept-encoding": "identity", "user-agent": "isthmus"},
            mounts=_LOOPBACK_MOUNTS,
        )

    async def _answer(self, client: httpx.AsyncClient, url: httpx.URL, body: bytes | None) -> bytes:
        for _ in range(self._limits.max_redirects + 1):
            _permitted(url)
            try:
                async with client.stream(
                    "GET" if body is None else "POST",
                    url,
                    content=body,
                    headers={} if body is None else {"content-type": OCSP_REQUEST_TYPE},
                ) as response:
                    if response.status_code not in _REDIRECTS:
                        return await self._body(response, self._limit(body))
                    target = _parse(response.headers.get("location", ""), url)
            except httpx.TimeoutException:
                raise RevocationUnavailable("no answer in time") from None
            # Where a redirect leads is looked at before we are asked.
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as fault:
                raise RevocationUnavailable(str(fault) or type(fault).__name__) from None
            url = target
        raise RevocationUnavailable(f"more than {self._limits.max_redirects} redirects")

    def _limit(self, body: bytes | None) -> int:
        return self._limits.max_body_bytes if body is None else self._limits.max_answer_bytes

    async def _body(self, response: httpx.Response, limit: int) -> bytes:
        if response.status_code != httpx.codes.OK:
            raise RevocationUnavailable(f"status {response.status_code}")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise RevocationUnavailable("a packed answer (content-encoding), which was not asked for")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > limit:
                raise RevocationUnavailable(f"more than {limit} bytes")
        return bytes(body)


def _permitted(url: httpx.URL) -> None:
    if url.scheme not in ("http", "https") or not url.host:
        raise RevocationUnavailable(f"{str(url)[:200]!a}: not an http or https URL")


def _parse(text: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        found = httpx.URL(text) if base is None else base.join(text)
        # Punycode is decoded when the host is asked for.
        _ = found.host
    except (httpx.InvalidURL, ValueError):
        raise RevocationUnavailable(f"{text[:200]!a}: not a URL") from None
    return found
