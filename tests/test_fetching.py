"""What the rooms that fetch have in common; that they do is shown by the tests of each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from isthmus.errors import JwksUnavailable
from isthmus.fetching import clock_problem, parse_url, read_body


class Bytes(httpx.AsyncByteStream):
    """A body that comes byte by byte."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for byte in self._body:
            yield bytes([byte])


async def body(status: int = 200, most: int = 10, encoding: str = "identity") -> bytes:
    answer = httpx.Response(status, headers={"content-encoding": encoding}, stream=Bytes(b"0123456789"))
    return await read_body(answer, most, JwksUnavailable)


async def test_a_body_has_its_limit() -> None:
    assert await body() == b"0123456789"
    with pytest.raises(JwksUnavailable, match="more than 9 bytes"):
        await body(most=9)
    with pytest.raises(JwksUnavailable, match="status 302"):
        await body(status=302)
    with pytest.raises(JwksUnavailable, match="packed"):
        await body(encoding="gzip")


@pytest.mark.parametrize("text", ["http://[::1", "http://xn--a/", "http://a:b/", "\0"])
def test_what_is_no_url_is_said(text: str) -> None:
    with pytest.raises(JwksUnavailable, match="not a URL"):
        parse_url(text, JwksUnavailable)
    with pytest.raises(JwksUnavailable, match="not a URL"):
        parse_url(text, JwksUnavailable, httpx.URL("http://a.example/"))


def test_a_redirect_is_relative_to_where_it_came_from() -> None:
    assert str(parse_url("../b", JwksUnavailable, httpx.URL("http://a.example/x/y"))) == "http://a.example/b"


@pytest.mark.parametrize(
    ("date", "said"),
    [
        ("Thu, 01 Jan 2026 12:00:00 GMT", None),
        ("Thu, 01 Jan 2026 12:01:00 GMT", None),
        ("Thu, 01 Jan 2026 12:10:00 GMT", "10 min ahead of ours"),
        ("Thu, 01 Jan 2026 11:49:30 GMT", "10 min behind ours"),
        ("Thu, 01 Jan 2026 11:50:00 -0000", "10 min behind ours"),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_clock_that_is_off_is_seen_by_the_date(date: str, said: str | None) -> None:
    found = clock_problem(httpx.Response(200, headers={"date": date}), datetime(2026, 1, 1, 12, tzinfo=UTC))
    assert (found is None) if said is None else (found is not None and said in found)
