"""From a provider's document to the world of the proxies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from isthmus.control.oidc_finding import UNDISCOVERED
from isthmus.errors import JwksUnavailable
from isthmus.model.oidc import ProviderEndpoints
from isthmus.serve.logins import Logins
from tests.control.making import plane_of
from tests.control.oidc_making import GATEWAY, ISSUER, login, secret
from tests.control.test_oidc import Files

GOOD = ProviderEndpoints("https://login.example.com/a", "https://login.example.com/t")


class Discovery:
    """Answers with what it is given, one after the other; the last for good."""

    def __init__(self, *answers: ProviderEndpoints | str) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def discover(self, issuer: str) -> ProviderEndpoints:
        self.asked.append(issuer)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, str):
            raise JwksUnavailable(answer)
        return answer


async def until(logins: Logins, done: Callable[[], bool], meanwhile: Callable[[], object]) -> None:
    async def wait() -> None:
        while not done():
            meanwhile()
            await asyncio.sleep(0.02)

    await _beside(logins.run(), asyncio.wait_for(wait(), 60))


async def _beside(running: Awaitable[None], work: Awaitable[None]) -> None:
    task = asyncio.ensure_future(running)
    try:
        await work
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_a_provider_says_is_in_the_world_and_outlives_it() -> None:
    plane, files = plane_of(GATEWAY, secret(), login()), Files()
    discovery = Discovery("not yet", GOOD)
    await until(Logins(plane, discovery, files), lambda: ISSUER in plane.world.providers, plane.rebuild)
    assert plane.world.providers[ISSUER].endpoints == GOOD
    assert set(discovery.asked) == {ISSUER}
    # Another start: before anybody is asked.
    again = plane_of(GATEWAY, secret(), login())
    Logins(again, Discovery("away"), files).take_up()
    assert again.world.providers[ISSUER].endpoints == GOOD


async def test_a_provider_that_lies_is_a_finding_and_not_in_the_world() -> None:
    plane = plane_of(GATEWAY, secret(), login())

    def found() -> bool:
        return any(one.code is UNDISCOVERED and "a lie" in one.message for one in plane.diagnostics)

    await until(Logins(plane, Discovery("a lie"), Files()), found, plane.rebuild)
    plane.rebuild()
    assert plane.world.providers[ISSUER].endpoints is None


async def test_what_was_good_stays() -> None:
    plane, files = plane_of(GATEWAY, secret(), login()), Files()
    await until(Logins(plane, Discovery(GOOD), files), lambda: bool(plane.world.providers), plane.rebuild)
    later = plane_of(GATEWAY, secret(), login())
    logins = Logins(later, Discovery("gone"), files)
    logins.take_up()
    await until(logins, lambda: bool(later.world.providers[ISSUER].error), later.rebuild)
    assert later.world.providers[ISSUER].endpoints == GOOD


def test_a_broken_file_counts_as_none() -> None:
    for content in (b"{", b"[]", b'{"a": 1}', b'{"a": {}}'):
        files = Files()
        files.write_private("oidc/providers.json", content)
        plane = plane_of(GATEWAY, secret(), login())
        Logins(plane, Discovery("away"), files).take_up()
        assert not plane.world.providers
