from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from isthmus.jwks.fetch import HttpFetcher, Limits, trust

from .provider import Authority, Provider, providing


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest_asyncio.fixture
async def provider(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Provider]:
    """An HTTPS issuer whose CA the ``fetcher`` trusts."""
    async with providing(authority.server_context(tmp_path_factory.mktemp("provider"))) as running:
        yield running


@pytest.fixture
def fetcher(authority: Authority) -> HttpFetcher:
    return HttpFetcher(trust(authority.bundle), Limits())
