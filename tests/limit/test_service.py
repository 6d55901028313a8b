"""The limit service as proxies meet it: a request in, an answer out, a clock that goes as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest

from isthmus.envoy_api.packages import limit_descriptor_v3, ratelimit_service_v3
from isthmus.limit.bucket import Verdict
from isthmus.limit.count import Ask, Counter, Now, Uncounted
from isthmus.limit.definition import Definition, Definitions
from isthmus.limit.lease import Leases
from isthmus.limit.memory import Memory
from isthmus.limit.service import LimitService
from tests.limit.playbook import Clock, quota, rate, slots

CLOSED = "isthmus.limit.global"
OK, OVER = 1, 2


class Store:
    """A store that is as it is told to be."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.memory = Memory()
        self.broken = False
        self.closed = False

    async def take(self, asks: Sequence[Ask], now: Now) -> tuple[Verdict, ...]:
        if self.broken:
            raise Uncounted("gone")
        return await self.memory.take(asks, now)

    async def close(self) -> None:
        self.closed = True


class Service:
    """A service with a clock, and the stores that it connected to."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.stores: list[Store] = []
        numbers = count()
        self.leases = Leases(lambda: f"lease-{next(numbers)}")
        self.service = LimitService(Memory(), self.leases, self._connect)

    def _connect(self, url: str) -> Counter:
        self.stores.append(Store(url))
        return self.stores[-1]

    async def know(self, *definitions: Definition, **stores: str) -> None:
        await self.service.update(Definitions({one.id: one for one in definitions}, stores))

    async def ask(self, *descriptors: Sequence[tuple[str, str]]) -> Any:
        request = ratelimit_service_v3.RateLimitRequest(domain=CLOSED)
        entry = limit_descriptor_v3.RateLimitDescriptor.Entry
        for descriptor in descriptors:
            request.descriptors.add(entries=[entry(key=key, value=value) for key, value in descriptor])
        return (await self.service.decide(request, self.clock.now))[0]

    async def codes(self, times: int, *descriptors: Sequence[tuple[str, str]]) -> list[int]:
        return [(await self.ask(*descriptors)).overall_code for _ in range(times)]


def headers(answer: Any) -> dict[str, str]:
    return {one.key: one.value for one in answer.response_headers_to_add}


def told(answer: Any) -> dict[str, Any]:
    return dict(answer.dynamic_metadata)


ALICE, BOB = (("claim:sub", "alice"), ("told:sub", "-")), (("claim:sub", "bob"), ("told:sub", "-"))


async def test_each_has_a_bucket() -> None:
    service = Service()
    await service.know(Definition("a", rate(2, 10)))
    assert await service.codes(3, (("limit", "a"), *ALICE)) == [OK, OK, OVER]
    assert await service.codes(3, (("limit", "a"), *BOB)) == [OK, OK, OVER]
    service.clock.wait(5)
    assert await service.codes(2, (("limit", "a"), *ALICE)) == [OK, OVER]


async def test_what_is_told() -> None:
    service = Service()
    await service.know(Definition("a", rate(2, 60, 1)), Definition("d", quota(9)))
    assert headers(await service.ask((("limit", "a"),), (("limit", "d"),))) == {
        "ratelimit-limit": "1, 2;w=60",
        "ratelimit-remaining": "0",
        "ratelimit-reset": "30",
    }
    refused = await service.ask((("limit", "a"),), (("limit", "d"),))
    assert told(refused) == {"reason": "rate-limited", "limit": "a"}
    assert headers(refused)["retry-after"] == "30"
    assert headers(await service.ask((("limit", "d"),))) == {
        "ratelimit-limit": "9, 9;w=86400",
        "ratelimit-remaining": "7",
        "ratelimit-reset": "10",
    }


async def test_one_that_is_to_tell_nothing() -> None:
    service = Service()
    await service.know(Definition("a", rate(1), headers=False), Definition("s", slots(1), headers=False))
    assert [headers(await service.ask((("limit", "a"),))) for _ in range(2)] == [{}, {}]
    assert [headers(await service.ask((("limit", "s"),))) for _ in range(2)] == [{}, {}]


async def test_a_quota() -> None:
    service = Service()
    await service.know(Definition("d", quota(1)))
    assert await service.codes(2, (("limit", "d"),)) == [OK, OVER]
    assert told(await service.ask((("limit", "d"),)))["reason"] == "quota-exhausted"
    service.clock.wait(10)
    assert await service.codes(2, (("limit", "d"),)) == [OK, OVER]


async def test_other_plans_are_no_business_of_it() -> None:
    service = Service()
    await service.know(Definition("a", rate(1), plans=("free", "trial")))

    def of(plan: str) -> tuple[tuple[str, str], ...]:
        return (("limit", "a"), ("plans", plan))

    assert await service.codes(2, of("free")) == [OK, OVER]
    assert await service.codes(2, of("trial")) == [OK, OVER], "each by itself"
    assert await service.codes(3, of("gold")) == [OK] * 3
    assert await service.codes(3, of("-")) == [OK] * 3


async def test_on_trial_it_tells() -> None:
    service = Service()
    await service.know(Definition("t", rate(1), shadow=True), Definition("u", slots(1), shadow=True))
    asked = ((("limit", "t"),), (("limit", "u"),))
    first, second = await service.ask(*asked), await service.ask(*asked)
    assert "shadow" not in told(first)
    assert second.overall_code == OK
    assert told(second)["shadow"] == "u,t"


async def test_leases() -> None:
    service = Service()
    await service.know(Definition("s", slots(1)), Definition("a", rate(2)))
    first = await service.ask((("limit", "s"),))
    lease = told(first)[CLOSED]
    refused = await service.ask((("limit", "s"),), (("limit", "a"),))
    assert told(refused) == {"reason": "concurrency-limited", "limit": "s"}
    assert headers(refused) == {"retry-after": "1"}
    assert await service.codes(1, (("release", CLOSED), ("lease", lease))) == [OK]
    assert await service.codes(1, (("limit", "s"),), (("limit", "a"),)) == [OK], "the refusal had not been counted"


async def test_what_another_limit_refuses_holds_no_slot() -> None:
    service = Service()
    await service.know(Definition("s", slots(1)), Definition("a", rate(1)), Definition("r", rate(9), store="x"))
    assert await service.codes(2, (("limit", "a"),)) == [OK, OVER]
    assert await service.codes(1, (("limit", "s"),), (("limit", "a"),)) == [OVER]
    with pytest.raises(Uncounted):
        await service.ask((("limit", "s"),), (("limit", "r"),))
    assert await service.codes(2, (("limit", "s"),)) == [OK, OVER]


async def test_a_limit_that_proxies_know_first() -> None:
    service = Service()
    asked = asyncio.create_task(service.codes(1, (("limit", "new"),)))
    await asyncio.sleep(0)
    await service.know(Definition("new", rate(1)))
    assert await asked == [OK]
    await service.know()
    assert await service.codes(1, (("limit", "new"),)) == [OVER], "a proxy may ask for a moment longer"


async def test_what_nobody_knows() -> None:
    service = Service()
    with pytest.raises(Uncounted, match="no limit other"):
        await service.ask((("limit", "other"),))
    with pytest.raises(Uncounted, match="begins with"):
        await service.ask((("other", "x"),))


async def test_stores() -> None:
    service = Service()
    await service.know(Definition("a", rate(2), store="x"), Definition("b", rate(1)), x="redis://one")
    both = ((("limit", "a"),), (("limit", "b"),))
    assert await service.codes(1, *both) == [OK]
    service.stores[0].broken = True
    with pytest.raises(Uncounted):
        await service.ask(*both)
    service.stores[0].broken = False
    assert await service.codes(2, (("limit", "a"),)) == [OK, OVER]
    await service.know(Definition("a", rate(2), store="x"), x="redis://two")
    assert [(one.url, one.closed) for one in service.stores] == [("redis://one", True), ("redis://two", False)]
    assert await service.codes(1, (("limit", "a"),)) == [OK]
    await service.know(Definition("a", rate(2), store="x"))
    with pytest.raises(Uncounted, match="no URL"):
        await service.ask((("limit", "a"),))
    await service.service.close()
