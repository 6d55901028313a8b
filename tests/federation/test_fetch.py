"""Fetches from a real TLS server: our own endpoint."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from isthmus.api.bundle_endpoint import build_bundle_endpoint, run_bundle_endpoint, server_context, show
from isthmus.api.listening import tcp_socket
from isthmus.errors import BundleUnavailable
from isthmus.federation.fetch import HttpsBundleFetcher
from tests.real.pki import Authority, Flaw, Leaf

from .bundles import ENDPOINT, bundle, spiffe, web

ROOT = Authority("root")
GIVEN = bundle()


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.pem.decode())


@asynccontextmanager
async def endpoint(leaf: Leaf, document: Callable[[], str] = GIVEN.to_json, path: str = "") -> AsyncIterator[str]:
    context = server_context()
    show(context, leaf.chain, leaf.key)
    listening = tcp_socket("127.0.0.1", 0)
    port = listening.getsockname()[1]
    task = asyncio.create_task(run_bundle_endpoint(build_bundle_endpoint(document), listening, context))
    try:
        yield f"https://localhost:{port}/{path}"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_web_server() -> None:
    fetcher = HttpsBundleFetcher(trusting(ROOT))
    async with endpoint(ROOT.issue("localhost")) as url:
        assert await fetcher.fetch(web(url), ()) == GIVEN
        with pytest.raises(BundleUnavailable, match="certificate verify failed"):
            await HttpsBundleFetcher(trusting(Authority("other"))).fetch(web(url), ())


async def test_an_svid() -> None:
    fetcher = HttpsBundleFetcher(trusting(Authority("the web")))
    async with endpoint(ROOT.issue(ENDPOINT)) as url:
        assert await fetcher.fetch(spiffe(url, None), (ROOT.pem.decode(),)) == GIVEN
        with pytest.raises(BundleUnavailable, match="certificate verify failed"):
            await fetcher.fetch(spiffe(url, None), (Authority("other").pem.decode(),))
        with pytest.raises(BundleUnavailable, match="is not here"):
            await fetcher.fetch(spiffe(url, None), ())


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        pytest.param(ROOT.issue("spiffe://td2.example/other"), "the endpoint is spiffe://td2", id="other"),
        pytest.param(ROOT.issue(ENDPOINT, flaw=Flaw.TWO_URIS), "not spiffe://td2.example/endpoint", id="two names"),
        pytest.param(ROOT.issue("localhost"), "the endpoint is nobody", id="a web server"),
        pytest.param(ROOT.issue(ENDPOINT, flaw=Flaw.EXPIRED), "certificate verify failed", id="expired"),
    ],
)
async def test_not_who_it_should_be(leaf: Leaf, reason: str) -> None:
    fetcher = HttpsBundleFetcher(trusting(ROOT))
    async with endpoint(leaf) as url:
        with pytest.raises(BundleUnavailable, match=reason):
            await fetcher.fetch(spiffe(url, None), (ROOT.pem.decode(),))


@pytest.mark.parametrize(
    ("document", "path", "reason"),
    [
        pytest.param("no", "", "not JSON", id="not a bundle"),
        pytest.param("{}", "elsewhere", "status 404", id="not there"),
        pytest.param(" " * (1024 * 1024 + 1), "", "more than 1048576 bytes", id="too large"),
    ],
)
async def test_not_a_bundle(document: str, path: str, reason: str) -> None:
    async with endpoint(ROOT.issue("localhost"), lambda: document, path) as url:
        with pytest.raises(BundleUnavailable, match=reason):
            await HttpsBundleFetcher(trusting(ROOT)).fetch(web(url), ())


async def test_nobody_there() -> None:
    with pytest.raises(BundleUnavailable):
        await HttpsBundleFetcher(trusting(ROOT)).fetch(web("https://localhost:1/"), ())
