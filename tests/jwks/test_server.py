from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isthmus.errors import JwksUnavailable
from isthmus.jwks.fetch import HttpFetcher, Limits
from isthmus.jwks.refresh import Pace
from isthmus.jwks.server import JwksService, JwksStatus, follow_files
from isthmus.jwks.source import JwksSource
from isthmus.jwks.store import JwksStore
from isthmus.model.key_set import KeySet, read_key_set

from .keys import jwk, jwks
from .provider import Authority, Provider, answer, later, providing

OLD = read_key_set(jwks(jwk("P-256")))
NEW = read_key_set(jwks(jwk("P-384")))
NOW = datetime(2026, 1, 2, tzinfo=UTC)
QUICK = Pace(
    refresh=timedelta(seconds=0.1),
    first_retry=timedelta(seconds=0.02),
    longest_retry=timedelta(seconds=0.1),
)
SLOW = Pace()


@dataclass
class FakeFetcher:
    """Gives the keys set for an issuer, after its delay; fails with the text set instead."""

    answers: dict[str, KeySet | str] = field(default_factory=dict)
    delays: dict[str, float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def fetch(self, source: JwksSource) -> KeySet:
        self.asked.append(source.issuer)
        await asyncio.sleep(self.delays.get(source.issuer, 0))
        found = self.answers.get(source.issuer, "nobody there")
        if isinstance(found, str):
            raise JwksUnavailable(found)
        return found


@asynccontextmanager
async def running(service: JwksService) -> AsyncIterator[JwksService]:
    task = asyncio.create_task(service.run())
    try:
        yield service
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(service: JwksService, source: JwksSource, fits: Callable[[JwksStatus], object]) -> JwksStatus:
    async with asyncio.timeout(60):
        async for status in service.status:
            if source in status and fits(status[source]):
                return status[source]
    raise AssertionError


def watching(service: JwksService, *issuers: str) -> list[JwksSource]:
    sources = [JwksSource(issuer) for issuer in issuers]
    service.watch(frozenset(sources))
    return sources


async def test_a_source_is_unknown_until_it_is_fetched(tmp_path: Path) -> None:
    service = JwksService(FakeFetcher({"a": OLD}), JwksStore(tmp_path), clock=lambda: NOW)
    (a,) = watching(service, "a")
    assert service.status.value == {a: JwksStatus(None, None, "not fetched yet", stale=False)}
    async with running(service):
        assert await until(service, a, lambda status: status.keys) == JwksStatus(OLD, NOW)


async def test_last_good_keys_are_there_before_the_first_fetch_and_after_one_that_fails(tmp_path: Path) -> None:
    store = JwksStore(tmp_path)
    store.save(JwksSource("a"), OLD, NOW)
    service = JwksService(FakeFetcher(), store, pace=SLOW)
    (a,) = watching(service, "a")
    assert service.status.value == {a: JwksStatus(OLD, NOW, "not fetched yet", stale=True)}
    async with running(service):
        failed = await until(service, a, lambda status: status.error == "nobody there")
    assert failed == JwksStatus(OLD, NOW, "nobody there", stale=True)


async def test_a_slow_issuer_delays_nobody(tmp_path: Path) -> None:
    fetcher = FakeFetcher({"slow": OLD, "fast": OLD}, {"slow": 90})
    service = JwksService(fetcher, JwksStore(tmp_path))
    slow, fast = watching(service, "slow", "fast")
    began = time.monotonic()
    async with running(service):
        await until(service, fast, lambda status: status.keys)
        assert service.status.value[slow].keys is None
    assert time.monotonic() - began < 60


async def test_a_vanished_source_is_dropped_and_no_longer_asked(tmp_path: Path) -> None:
    fetcher = FakeFetcher({"a": OLD, "b": OLD})
    service = JwksService(fetcher, JwksStore(tmp_path), pace=QUICK)
    a, b = watching(service, "a", "b")
    async with running(service):
        await until(service, a, lambda status: status.keys)
        await until(service, b, lambda status: status.keys)
        service.watch(frozenset({b}))
        assert service.status.value.keys() == {b}
        await asyncio.sleep(0.05)
        fetcher.asked.clear()
        await asyncio.sleep(0.3)
    assert set(fetcher.asked) == {"b"}


async def test_a_source_that_vanishes_amid_its_fetch_harms_nobody_and_comes_back(tmp_path: Path) -> None:
    fetcher = FakeFetcher({"a": OLD, "b": OLD}, {"a": 0.05})
    service = JwksService(fetcher, JwksStore(tmp_path), pace=QUICK)
    (a,) = watching(service, "a")
    async with running(service):
        while fetcher.asked != ["a"]:
            await asyncio.sleep(0.002)
        (b,) = watching(service, "b")
        service.watch(frozenset({a, b}))
        await until(service, b, lambda status: status.keys)
        assert (await until(service, a, lambda status: status.keys)).keys == OLD


async def test_a_fixed_issuer_is_never_asked_whatever_its_uri(tmp_path: Path) -> None:
    fetcher = FakeFetcher({"a": NEW, "b": NEW})
    service = JwksService(fetcher, JwksStore(tmp_path), {"a": OLD}, pace=QUICK)
    fixed, located, b = JwksSource("a"), JwksSource("a", "https://a.example/keys"), JwksSource("b")
    service.watch(frozenset({fixed, located, b}))
    assert service.status.value[fixed] == service.status.value[located] == JwksStatus(OLD, None)
    async with running(service):
        await until(service, b, lambda status: status.keys)
        service.set_fixed("a", NEW)
        assert service.status.value[fixed] == JwksStatus(NEW, None)
        service.set_fixed("b", OLD)
        assert service.status.value[b] == JwksStatus(OLD, None)
    assert set(fetcher.asked) == {"b"}


async def test_a_state_that_cannot_be_written_costs_no_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "jwks").write_text("a file where the folder should be")
    service = JwksService(FakeFetcher({"a": OLD}), JwksStore(tmp_path / "jwks"), pace=QUICK)
    (a,) = watching(service, "a")
    async with running(service):
        first = await until(service, a, lambda status: status.keys)
        await until(service, a, lambda status: status.fetched_at != first.fetched_at)
    assert "not kept for the next start" in caplog.text


async def test_the_same_failure_is_said_once_and_the_mending_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fetcher = FakeFetcher()
    service = JwksService(fetcher, JwksStore(tmp_path), pace=QUICK)
    (a,) = watching(service, "a")
    async with running(service):
        while len(fetcher.asked) < 6:
            await asyncio.sleep(0.01)
        fetcher.answers["a"] = OLD
        await until(service, a, lambda status: status.error is None)
    assert caplog.text.count("nobody there; its tokens are refused") == 1
    assert "keys of a: P-256" in caplog.text


async def test_what_was_left_out_of_a_set_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mixed = read_key_set(jwks(jwk("P-256"), jwk("Ed448")))
    service = JwksService(FakeFetcher({"a": mixed}), JwksStore(tmp_path))
    (a,) = watching(service, "a")
    async with running(service):
        await until(service, a, lambda status: status.keys)
    assert "keys of a: left out key 'Ed448'" in caplog.text


async def test_files_are_followed_and_a_broken_one_changes_nothing_but_the_status(tmp_path: Path) -> None:
    path, a = tmp_path / "keys.json", JwksSource("a")
    path.write_text(OLD.text)
    service = JwksService(FakeFetcher(), JwksStore(tmp_path / "state"), {"a": OLD})
    service.watch(frozenset({a}))
    following = asyncio.create_task(follow_files(service, {"a": path}, every=timedelta(seconds=0.01)))
    try:
        path.write_text("{")
        broken = await until(service, a, lambda status: status.error)
        assert broken == JwksStatus(OLD, None, f"{path}: not JSON", stale=True)
        path.unlink()
        await until(service, a, lambda status: status.error == f"{path}: No such file or directory")
        path.write_text(NEW.text)
        assert await until(service, a, lambda status: status.keys == NEW) == JwksStatus(NEW, None)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_real_provider_that_is_slow_wrong_gone_back_and_rotates_its_keys(
    authority: Authority, fetcher: HttpFetcher, tmp_path: Path
) -> None:
    tls = authority.server_context(tmp_path)
    impatient = HttpFetcher(fetcher.trust, Limits(total=timedelta(seconds=0.3)))
    store = JwksStore(tmp_path / "jwks")
    service = JwksService(impatient, store, pace=QUICK)
    async with running(service):
        async with providing(tls) as provider:
            source = JwksSource(provider.url)
            provider.publish(OLD.text)
            service.watch(frozenset({source}))
            await until(service, source, lambda status: status.keys == OLD and not status.stale)

            provider.answers["/keys"] = later(answer(OLD.text), 30)
            await _stale(service, source, "no whole answer in 0.3 s")
            provider.answers["/keys"] = answer("<html>maintenance</html>")
            await _stale(service, source, "not JSON")
            provider.answers["/keys"] = answer('{"keys":[]}')
            await _stale(service, source, "no usable key")
            provider.answers["/keys"] = answer(status=503)
            await _stale(service, source, "status 503")

            provider.publish(NEW.text)
            await until(service, source, lambda status: status.keys == NEW and not status.stale)
        await _stale(service, source, f"{provider.url}/.well-known/openid-configuration: ", keys=NEW)
    again = JwksService(impatient, store, pace=QUICK)
    again.watch(frozenset({source}))
    assert again.status.value[source].keys == NEW, "kept on disk"
    async with running(again), providing(tls, int(provider.url.rsplit(":", 1)[1])) as back:
        back.url = provider.url
        back.publish(OLD.text)
        await until(again, source, lambda status: status.keys == OLD and not status.stale)


async def _stale(service: JwksService, source: JwksSource, error: str, keys: KeySet = OLD) -> None:
    found = await until(service, source, lambda status: error in (status.error or ""))
    assert (found.keys, found.stale) == (keys, True)


async def test_first_keys_of_many_real_issuers_come_together(
    provider: Provider, fetcher: HttpFetcher, tmp_path: Path
) -> None:
    """Thirty issuers that each take a second: one after the other would be half a minute."""
    provider.answers = {f"/{n}": later(answer(OLD.text), 1.0) for n in range(30)}
    sources = frozenset(JwksSource(f"issuer {n}", f"{provider.url}/{n}") for n in range(30))
    service = JwksService(fetcher, JwksStore(tmp_path))
    service.watch(sources)
    began = time.monotonic()
    async with running(service):
        for source in sources:
            await until(service, source, lambda status: status.keys)
    assert time.monotonic() - began < 15
