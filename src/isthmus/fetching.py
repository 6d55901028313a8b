"""What every fetch over HTTP has in common: a limit on all that the other side chooses."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

Fault = Callable[[str], Exception]
"""Makes of a reason the exception that the caller's callers know."""

_LOOPBACK_MOUNTS: Final = {"all://localhost": None, "all://127.0.0.1": None, "all://[::1]": None}


def new_client(
    trust: ssl.SSLContext, total: timedelta, connect: timedelta, accept: str | None = None
) -> httpx.AsyncClient:
    """A client for one fetch: between two lie minutes. It follows no redirect by itself.

    A proxy of the environment is never asked for this machine itself.
    """
    # Unpacking is where a small answer becomes a huge one, so nothing packed is asked for.
    headers = {"accept-encoding": "identity", "user-agent": "isthmus"}
    return httpx.AsyncClient(
        verify=trust,
        timeout=httpx.Timeout(total.total_seconds(), connect=connect.total_seconds()),
        headers=headers if accept is None else {**headers, "accept": accept},
        mounts=_LOOPBACK_MOUNTS,
        follow_redirects=False,
    )


async def read_body(response: httpx.Response, most_bytes: int, fault: Fault) -> bytes:
    """Of an answer that is being streamed. Raises ``fault``: not 200, packed all the same, or more than that."""
    if response.status_code != httpx.codes.OK:
        raise fault(f"status {response.status_code}")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise fault("a packed answer (content-encoding), which was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most_bytes:
            raise fault(f"more than {most_bytes} bytes")
    return bytes(body)


def parse_url(text: str, fault: Fault, base: httpx.URL | None = None) -> httpx.URL:
    """``text``, against ``base`` where it is a redirect's. Raises ``fault``: not a URL."""
    try:
        found = httpx.URL(text) if base is None else base.join(text)
        # Punycode is decoded when the host is asked for.
        _ = found.host
    except (httpx.InvalidURL, ValueError):
        raise fault(f"{text[:200]!a}: not a URL") from None
    return found


_FORGIVEN: Final = timedelta(seconds=60)
"""What whoever verifies a token forgives."""


def clock_problem(response: httpx.Response, now: datetime) -> str | None:
    """What is wrong with the other side's clock, by its ``date``, or with ours; None: nothing, or it does not say."""
    try:
        theirs = parsedate_to_datetime(response.headers.get("date", ""))
    except ValueError:
        return None
    off = (theirs if theirs.tzinfo is not None else theirs.replace(tzinfo=UTC)) - now
    if abs(off) <= _FORGIVEN:
        return None
    minutes = round(abs(off) / timedelta(minutes=1))
    where = "ahead of" if off > timedelta() else "behind"
    return f"its clock is {minutes} min {where} ours: good tokens may be refused as expired or not valid yet"
