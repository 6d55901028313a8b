"""Asking an introspection endpoint, with a limit on everything that it chooses."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote_plus

import certifi
import httpx

from isthmus.decide.client.introspection import Provider
from isthmus.errors import IntrospectionUnavailable
from isthmus.fetching import clock_problem, new_client, parse_url, read_body

logger = logging.getLogger(__name__)

_CONNECT = timedelta(seconds=1)
_MOST_BYTES = 64 * 1024
_MOST_CLIENTS = 64
_BASIC = "client_secret_basic"


class HttpAsker:
    """Keeps a connection or more to each provider: there may be a question for every request."""

    def __init__(self) -> None:
        self._clients: dict[Provider, httpx.AsyncClient] = {}
        self._told: set[str] = set()

    async def introspect(self, provider: Provider, token: str) -> bytes:
        """Raises IntrospectionUnavailable: unreachable, late, not 200 (a redirect, too), packed, or too large."""
        seconds = provider.timeout.total_seconds()
        try:
            client = await self._client(provider)
            form, headers = _request(provider, token)
            url = parse_url(provider.endpoint, IntrospectionUnavailable)
            # A redirect would take the token, and our own secret, to who knows where.
            async with asyncio.timeout(seconds), client.stream("POST", url, data=form, headers=headers) as response:
                if response.status_code == httpx.codes.BAD_REQUEST and await _is_of_no_kind_of_theirs(response):
                    return b'{"active": false}'
                self._compare_clocks(provider, response)
                return await read_body(response, _MOST_BYTES, IntrospectionUnavailable)
        except (TimeoutError, httpx.TimeoutException):
            raise IntrospectionUnavailable(f"no whole answer in {seconds:g} s") from None
        except (httpx.HTTPError, ssl.SSLError, ValueError) as fault:
            raise IntrospectionUnavailable(str(fault) or type(fault).__name__) from None

    async def _client(self, provider: Provider) -> httpx.AsyncClient:
        """A provider of other settings is another one; those that nobody asked for longest are let go."""
        found = self._clients.pop(provider, None)
        if found is None:
            connect = min(provider.timeout, _CONNECT)
            found = new_client(_trust(provider.ca), provider.timeout, connect, accept="application/json")
        self._clients[provider] = found
        while len(self._clients) > _MOST_CLIENTS:
            await self._clients.pop(next(iter(self._clients))).aclose()
        return found

    def _compare_clocks(self, provider: Provider, response: httpx.Response) -> None:
        """Tells once of each provider."""
        wrong = clock_problem(response, datetime.now(UTC))
        if wrong is not None and provider.endpoint not in self._told:
            self._told.add(provider.endpoint)
            logger.warning("introspection at %s: %s", provider.endpoint, wrong)

    async def close(self) -> None:
        while self._clients:
            await self._clients.popitem()[1].aclose()


async def _is_of_no_kind_of_theirs(response: httpx.Response) -> bool:
    """Whether the fault is the token's: some providers do not look at JWTs, and say so as RFC 7009 (2.2.1) has it."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > _MOST_BYTES:
            break
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict) and answer.get("error") == "unsupported_token_type":
        return True
    raise IntrospectionUnavailable(f"status {response.status_code}")


def _request(provider: Provider, token: str) -> tuple[dict[str, str], dict[str, str]]:
    """Form and headers."""
    form = {"token": token, "token_type_hint": "access_token"}
    if provider.client_auth == _BASIC:
        # RFC 6749, section 2.3.1: each is form-encoded before it is joined and encoded again.
        pair = f"{quote_plus(provider.client_id)}:{quote_plus(provider.client_secret)}"
        return form, {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {**form, "client_id": provider.client_id, "client_secret": provider.client_secret}, {}


def _trust(ca: str | None) -> ssl.SSLContext:
    """The CA's own, or the system's (certifi's where the system has none)."""
    if ca is not None:
        return ssl.create_default_context(cadata=ca)
    context = ssl.create_default_context()
    folder = ssl.get_default_verify_paths().capath
    if not context.cert_store_stats()["x509_ca"] and not (folder is not None and any(Path(folder).iterdir())):
        context.load_verify_locations(certifi.where())
    return context
