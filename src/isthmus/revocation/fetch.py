"""Fetching lists and answers over HTTP, with a limit on everything that the other side chooses.

They are signed, so plain http is as good as https: it is what CAs publish over (RFC 5280, section 4.2.1.13).
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import httpx

from isthmus.errors import RevocationUnavailable
from isthmus.fetching import REDIRECTS, new_client, parse_url, read_body
from isthmus.revocation.source import OCSP_REQUEST_TYPE


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
        total = within or self._limits.total
        try:
            async with asyncio.timeout(total.total_seconds()), self._client(total) as client:
                return await self._answer(client, parse_url(url, RevocationUnavailable), body)
        except TimeoutError:
            raise RevocationUnavailable(f"no whole answer in {total.total_seconds():g} s") from None

    def _client(self, total: timedelta) -> httpx.AsyncClient:
        if self._trust is None:
            self._trust = ssl.create_default_context()
        return new_client(self._trust, total, self._limits.connect)

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
                    if response.status_code not in REDIRECTS:
                        return await read_body(response, self._limit(body), RevocationUnavailable)
                    target = parse_url(response.headers.get("location", ""), RevocationUnavailable, url)
            except httpx.TimeoutException:
                raise RevocationUnavailable("no answer in time") from None
            # Where a redirect leads is looked at before we are asked.
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as fault:
                raise RevocationUnavailable(str(fault) or type(fault).__name__) from None
            url = target
        raise RevocationUnavailable(f"more than {self._limits.max_redirects} redirects")

    def _limit(self, body: bytes | None) -> int:
        return self._limits.max_body_bytes if body is None else self._limits.max_answer_bytes


def _permitted(url: httpx.URL) -> None:
    if url.scheme not in ("http", "https") or not url.host:
        raise RevocationUnavailable(f"{str(url)[:200]!a}: not an http or https URL")
