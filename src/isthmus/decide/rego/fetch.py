"""Bundles from servers and files, and decision logs to servers, with a limit on all that the other side chooses."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

import httpx

from isthmus.decide.rego.bundle import MAX_BYTES
from isthmus.errors import RegoBundleRefused
from isthmus.fetching import new_client, parse_url, read_body
from isthmus.model.rego_bundle import BundleSource

_TOTAL: Final = timedelta(seconds=60)
_CONNECT: Final = timedelta(seconds=5)
_HOLDS: Final = "application/vnd.openpolicyagent.bundles"
"""The type of what a server answers that holds questions until it has something new (OPA: HTTP long polling)."""
_ACCEPT: Final = f"application/gzip, application/octet-stream, {_HOLDS}"
_HELD: Final = timedelta(seconds=30)
"""For how long a server is asked to hold a question."""
_LONGEST_TAG: Final = 1000
_POST: Final = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Fetched:
    """``packed`` None: still that of the tag. ``tag``: an ETag, or what tells one content of a file from another.

    ``holds``: the server answers the next question when it has something new, so it need not wait.
    """

    packed: bytes | None = field(repr=False)
    tag: str | None
    holds: bool = False


class BundleFetcher(Protocol):
    async def fetch(self, source: BundleSource, token: str | None, tag: str | None) -> Fetched:
        """The bundle now, unless it is still that of ``tag``. Raises RegoBundleRefused."""


class AnyBundleFetcher:
    """Of files and of servers. A redirect is an error: who may write policies is what the manifest says."""

    def __init__(self) -> None:
        self._trust: ssl.SSLContext | None = None

    async def fetch(self, source: BundleSource, token: str | None, tag: str | None) -> Fetched:
        """As :class:`BundleFetcher`. A server without ETags is asked for the whole bundle every time."""
        if source.is_file:
            return await asyncio.to_thread(_read, Path(source.location), tag)
        if self._trust is None:
            self._trust = ssl.create_default_context()
        # No deltas: they are not taken. Servers that do not know the preference leave it aside (RFC 7240).
        wait = f"modes=snapshot;wait={_HELD.total_seconds():.0f}"
        headers = {} if tag is None else {"if-none-match": tag, "prefer": wait}
        total = _TOTAL if tag is None else _TOTAL + _HELD
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        try:
            async with (
                asyncio.timeout(total.total_seconds()),
                new_client(self._trust, total, _CONNECT, accept=_ACCEPT) as client,
                client.stream("GET", parse_url(source.location, RegoBundleRefused), headers=headers) as response,
            ):
                if response.status_code == httpx.codes.NOT_MODIFIED and tag is not None:
                    return Fetched(None, tag, _holds(response))
                packed = await read_body(response, MAX_BYTES, RegoBundleRefused)
                found = _etag(response)
                # Without a tag the next question says nothing that an answer could wait for.
                return Fetched(packed, found, found is not None and _holds(response))
        except TimeoutError:
            raise RegoBundleRefused(f"no whole answer in {total.total_seconds():g} s") from None
        except httpx.TimeoutException:
            raise RegoBundleRefused("no answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as fault:
            raise RegoBundleRefused(str(fault) or type(fault).__name__) from None


def _holds(response: httpx.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == _HOLDS


def _etag(response: httpx.Response) -> str | None:
    found = response.headers.get("etag")
    return found if found and len(found) <= _LONGEST_TAG and found.isascii() and found.isprintable() else None


def _read(path: Path, tag: str | None) -> Fetched:
    try:
        with path.open("rb") as file:
            about = path.stat()
            now = f"{about.st_ino}-{about.st_size}-{about.st_mtime_ns}"
            return Fetched(None if now == tag else file.read(MAX_BYTES + 1), now)
    except OSError as fault:
        raise RegoBundleRefused(fault.strerror or type(fault).__name__) from None


class DecisionPost(Protocol):
    async def post(self, url: str, token: str | None, events: bytes) -> None:
        """``events``: a JSON array. Raises RegoBundleRefused: not taken, to be sent again."""


class HttpDecisionPost:
    """Packed, as OPA sends them. No redirect is followed: events hold what clients sent."""

    def __init__(self) -> None:
        self._trust: ssl.SSLContext | None = None

    async def post(self, url: str, token: str | None, events: bytes) -> None:
        """As :class:`DecisionPost`."""
        if self._trust is None:
            self._trust = ssl.create_default_context()
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        packed = await asyncio.to_thread(gzip.compress, events, 5)
        try:
            async with (
                asyncio.timeout(_POST.total_seconds()),
                new_client(self._trust, _POST, _CONNECT) as client,
                client.stream("POST", url, content=packed, headers=headers) as response,
            ):
                if not response.is_success:
                    raise RegoBundleRefused(f"status {response.status_code}")
        except TimeoutError:
            raise RegoBundleRefused(f"no answer in {_POST.total_seconds():g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as fault:
            raise RegoBundleRefused(str(fault) or type(fault).__name__) from None
