from __future__ import annotations

import gzip
import json
import logging
import ssl
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from isthmus.errors import JwksUnavailable
from isthmus.jwks.fetch import HttpFetcher, Limits, permitted, trust
from isthmus.jwks.source import JwksSource
from isthmus.model.key_set import KeySet, read_key_set

from .keys import jwk, jwks
from .provider import Authority, Provider, answer, later, providing, raw, trickle

KEYS = jwks(jwk("P-256"))
DISCOVERY = "/.well-known/openid-configuration"


async def fetch(fetcher: HttpFetcher, provider: Provider, path: str = "/keys") -> KeySet:
    return await fetcher.fetch(JwksSource(provider.url, provider.url + path))


async def refused(fetcher: HttpFetcher, provider: Provider, path: str = "/keys") -> str:
    with pytest.raises(JwksUnavailable) as fault:
        await fetch(fetcher, provider, path)
    return str(fault.value)


async def test_fetches_from_the_uri(provider: Provider, fetcher: HttpFetcher) -> None:
    provider.answers["/keys"] = answer(KEYS)
    assert await fetch(fetcher, provider) == read_key_set(KEYS)
    assert provider.asked == ["/keys"]


async def test_discovers_the_uri(provider: Provider, fetcher: HttpFetcher) -> None:
    provider.publish(KEYS)
    assert await fetcher.fetch(JwksSource(provider.url)) == read_key_set(KEYS)
    assert provider.asked == [DISCOVERY, "/keys"]


async def test_an_issuer_that_lies_about_its_name_is_not_asked_for_keys(
    provider: Provider, fetcher: HttpFetcher
) -> None:
    provider.publish(KEYS)
    document = {"issuer": "https://other.example", "jwks_uri": f"{provider.url}/keys"}
    provider.answers[DISCOVERY] = answer(json.dumps(document))
    with pytest.raises(JwksUnavailable, match="another issuer"):
        await fetcher.fetch(JwksSource(provider.url))
    assert provider.asked == [DISCOVERY]


async def test_discovery_may_not_lead_from_https_to_http(provider: Provider, fetcher: HttpFetcher) -> None:
    async with providing(None) as plain:
        plain.publish(KEYS)
        document = {"issuer": provider.url, "jwks_uri": f"{plain.url}/keys"}
        provider.answers[DISCOVERY] = answer(json.dumps(document))
        with pytest.raises(JwksUnavailable, match="from https to another scheme"):
            await fetcher.fetch(JwksSource(provider.url))
        assert plain.asked == []


async def test_a_slow_issuer_is_left_after_the_total_time(provider: Provider, fetcher: HttpFetcher) -> None:
    hurried = replace(fetcher, limits=Limits(total=timedelta(seconds=0.3)))
    provider.answers["/keys"] = later(answer(KEYS), 90)
    began = time.monotonic()
    assert "in time" in (reason := await refused(hurried, provider)) or "no whole answer in 0.3 s" in reason
    assert time.monotonic() - began < 60


async def test_the_total_time_holds_for_one_who_always_sends_a_little(provider: Provider, fetcher: HttpFetcher) -> None:
    hurried = replace(fetcher, limits=Limits(total=timedelta(seconds=1.5)))
    provider.answers["/keys"] = trickle(b" ", every=0.02)
    assert await refused(hurried, provider) == "no whole answer in 1.5 s"


async def test_the_total_time_holds_for_discovery_and_keys_together(provider: Provider, fetcher: HttpFetcher) -> None:
    provider.publish(KEYS)
    for path in (DISCOVERY, "/keys"):
        provider.answers[path] = later(provider.answers[path], 1.5)
    hurried = replace(fetcher, limits=Limits(total=timedelta(seconds=2.8)))
    with pytest.raises(JwksUnavailable, match=r"no whole answer in 2\.8 s"):
        await hurried.fetch(JwksSource(provider.url))
    assert provider.asked == [DISCOVERY, "/keys"]


async def test_a_slow_issuer_within_the_time_is_waited_for(provider: Provider, fetcher: HttpFetcher) -> None:
    provider.answers["/keys"] = later(answer(KEYS), 0.3)
    assert await fetch(fetcher, provider) == read_key_set(KEYS)


@pytest.mark.parametrize("status", [201, 204, 304, 400, 403, 404, 429, 500, 503])
async def test_any_status_but_200_is_refused(provider: Provider, fetcher: HttpFetcher, status: int) -> None:
    provider.answers["/keys"] = answer(b"" if status in (204, 304) else KEYS, status=status)
    assert await refused(fetcher, provider) == f"{provider.url}/keys: status {status}"


async def test_wrong_content_is_refused_and_neither_quoted_nor_logged(
    provider: Provider, fetcher: HttpFetcher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider.answers["/keys"] = answer("<html>a secret of the issuer</html>", content_type="application/json")
    assert await refused(fetcher, provider) == "not JSON"
    assert "a secret of the issuer" not in caplog.text


async def test_a_clock_that_is_wrong_is_told_once_while_it_lasts(
    provider: Provider, fetcher: HttpFetcher, caplog: pytest.LogCaptureFixture
) -> None:
    for late in (60, 60, 0, 60):
        date = format_datetime(datetime.now(UTC) - timedelta(minutes=late), usegmt=True)
        provider.answers["/keys"] = answer(KEYS, date=date)
        await fetch(fetcher, provider)
    assert caplog.text.count("127.0.0.1: its clock is 60 min behind ours") == 2


async def test_a_huge_answer_is_left_at_the_limit(provider: Provider, fetcher: HttpFetcher) -> None:
    provider.answers["/keys"] = trickle(b"x" * 65536, every=0)
    began = time.monotonic()
    assert await refused(fetcher, provider) == f"{provider.url}/keys: more than 1048576 bytes"
    assert time.monotonic() - began < 60


async def test_an_answer_of_exactly_the_limit_is_read(provider: Provider, fetcher: HttpFetcher) -> None:
    exact = replace(fetcher, limits=Limits(max_body_bytes=len(KEYS)))
    provider.answers["/keys"] = answer(KEYS)
    assert await fetch(exact, provider) == read_key_set(KEYS)
    provider.answers["/keys"] = answer(KEYS + " ")
    assert f"more than {len(KEYS)} bytes" in await refused(exact, provider)


async def test_nothing_packed_is_unpacked(provider: Provider, fetcher: HttpFetcher) -> None:
    provider.answers["/keys"] = answer(gzip.compress(KEYS.encode()), content_encoding="gzip")
    assert "packed" in await refused(fetcher, provider)


@pytest.mark.parametrize("content", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}"])
async def test_a_broken_answer_is_refused(provider: Provider, fetcher: HttpFetcher, content: bytes) -> None:
    provider.answers["/keys"] = raw(content)
    assert (await refused(fetcher, provider)).startswith(f"{provider.url}/keys: ")


async def test_follows_three_redirects_and_not_four(provider: Provider, fetcher: HttpFetcher) -> None:
    provider.answers |= {f"/{n}": answer(status=302, location=f"/{n + 1}") for n in range(5)}
    provider.answers["/4"] = answer(KEYS)
    assert await fetch(fetcher, provider, "/1") == read_key_set(KEYS)
    assert "more than 3 redirects" in await refused(fetcher, provider, "/0")


async def test_a_redirect_may_not_leave_https(provider: Provider, fetcher: HttpFetcher) -> None:
    async with providing(None) as plain:
        plain.answers["/keys"] = answer(KEYS)
        provider.answers["/keys"] = answer(status=307, location=f"{plain.url}/keys")
        assert "from https to another scheme" in await refused(fetcher, provider)
        assert plain.asked == []


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "//", "https://", "http://[", "https://a:b/", "https://xn--a/", "\\\\", ""]
)
async def test_a_redirect_to_nowhere_is_refused(provider: Provider, fetcher: HttpFetcher, location: str) -> None:
    provider.answers["/keys"] = answer(status=302, location=location)
    assert await refused(fetcher, provider)


async def test_a_provider_that_is_gone_is_unreachable(
    authority: Authority, fetcher: HttpFetcher, tmp_path: Path
) -> None:
    async with providing(authority.server_context(tmp_path)) as provider:
        provider.answers["/keys"] = answer(KEYS)
        assert await fetch(fetcher, provider) == read_key_set(KEYS)
    assert (await refused(fetcher, provider)).startswith(f"{provider.url}/keys: ")


async def test_a_certificate_of_an_unknown_authority_is_refused(provider: Provider) -> None:
    provider.answers["/keys"] = answer(KEYS)
    assert "CERTIFICATE_VERIFY_FAILED" in await refused(HttpFetcher(trust()), provider)
    assert provider.asked == []


async def test_a_certificate_of_another_host_is_refused(
    authority: Authority, fetcher: HttpFetcher, tmp_path: Path
) -> None:
    async with providing(authority.server_context(tmp_path, "issuer.example")) as provider:
        provider.answers["/keys"] = answer(KEYS)
        assert "CERTIFICATE_VERIFY_FAILED" in await refused(fetcher, provider)
        assert provider.asked == []


async def test_plain_http_from_this_machine_is_for_development(fetcher: HttpFetcher) -> None:
    async with providing(None) as plain:
        plain.publish(KEYS)
        assert await fetcher.fetch(JwksSource(plain.url)) == read_key_set(KEYS)


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    fetcher: HttpFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with providing(None) as plain, providing(None) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        plain.publish(KEYS)
        assert await fetcher.fetch(JwksSource(plain.url)) == read_key_set(KEYS)
        assert proxy.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "https://issuer.example/a",
        "https://10.0.0.1",
        "http://localhost",
        "http://a.localhost:80",
        "http://127.9.9.9",
        "http://[::1]:1",
    ],
)
def test_permitted(url: str) -> None:
    permitted(httpx.URL(url))


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/a",
        "http://10.0.0.1",
        "http://localhost.issuer.example",
        "http://127.0.0.1.issuer.example",
        "http://notlocalhost",
        "http://2130706433",
        "http://[::ffff:10.0.0.1]",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "unix:///run/a.sock",
        "https:///a",
        "/keys",
        "",
    ],
)
def test_not_permitted(url: str) -> None:
    with pytest.raises(JwksUnavailable):
        permitted(httpx.URL(url))


def test_a_reason_shows_no_password_and_no_query() -> None:
    with pytest.raises(JwksUnavailable) as fault:
        permitted(httpx.URL("http://ann:hidden@issuer.example:81/keys?token=hidden"))
    assert str(fault.value).startswith("http://issuer.example:81/keys: ")
    assert "hidden" not in str(fault.value)


async def test_a_uri_that_is_no_url_is_refused(fetcher: HttpFetcher) -> None:
    with pytest.raises(JwksUnavailable, match="not a URL"):
        await fetcher.fetch(JwksSource("a", "https://a:port"))


def test_trusts_the_systems_roots_and_verifies() -> None:
    context = trust()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"], ids=["missing", "empty", "text"])
def test_a_bundle_that_is_none_is_named(tmp_path: Path, content: bytes | None) -> None:
    bundle = tmp_path / "roots.pem"
    if content is not None:
        bundle.write_bytes(content)
    with pytest.raises(JwksUnavailable, match=r"roots\.pem: not a bundle of CA certificates"):
        trust(bundle)


@pytest.mark.parametrize(
    "source",
    [JwksSource("a", "http://issuer.example/keys"), JwksSource("http://issuer.example")],
    ids=["uri", "issuer"],
)
async def test_plain_http_from_elsewhere_is_not_even_tried(fetcher: HttpFetcher, source: JwksSource) -> None:
    with pytest.raises(JwksUnavailable, match="keys come over https only"):
        await fetcher.fetch(source)
