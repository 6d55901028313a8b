"""The figures that people write first: 1,000 connections, 500 waiting, 2,000 requests, 3 retries, at these figures."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import resource
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.real.destination import FRONT, Case, Level, Server, Together, is_overflow, marked
from tests.real.h2_server import H2Server
from tests.real.test_destination_pools import Failing
from tests.real.traffic import Caller, caller, dump
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

_POLICY = {
    "connectionPool": {
        "tcp": {"maxConnections": 1000},
        "http": {"http1MaxPendingRequests": 500, "http2MaxRequests": 2000, "maxRetries": 3},
    },
    "outlierDetection": {
        "consecutive5xxErrors": 5,
        "interval": "10s",
        "baseEjectionTime": "30s",
        "maxEjectionPercent": 100,
    },
}
_DESCRIPTORS = 8192
_WAVE = 200
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Holding:
    """HTTP/1.1 whose requests wait until they are let go. ``held``: how many wait."""

    def __init__(self) -> None:
        self.held = 0
        self._go = asyncio.Event()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=2048)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.held += 1
                await self._go.wait()
                self.held -= 1
                writer.write(_ANSWER)

    async def release(self) -> None:
        self._go.set()


class Loop:
    """Runs coroutines in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(300)

    def close(self) -> None:
        self.run(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end_tasks(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Crowd:
    """Requests through the caller's proxy, each on a connection of its own. ``answers``: heads, as they come."""

    def __init__(self, front: Caller, url: str) -> None:
        proxy = urlsplit(front.env["http_proxy"])
        assert proxy.port is not None
        self._port = proxy.port
        credential = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
        self._request = (
            f"GET {url} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\nproxy-authorization: Basic {credential}\r\n\r\n"
        ).encode()
        self._tasks: list[asyncio.Task[None]] = []
        self.answers: list[str] = []

    def send(self, count: int) -> None:
        self._tasks.extend(asyncio.create_task(self._ask()) for _ in range(count))

    async def _ask(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self._request)
        with contextlib.closing(writer):
            self.answers.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))

    async def all(self) -> None:
        await asyncio.gather(*self._tasks)

    @property
    def verdicts(self) -> Counter[str]:
        """By status, and whether a circuit breaker said so."""
        return Counter(
            answer.split()[1] + (" overloaded" if "x-envoy-overloaded: true" in answer else "")
            for answer in self.answers
        )


async def reached(what: str, count: Any, wanted: int) -> None:
    async with asyncio.timeout(120):
        while count() < wanted:
            await asyncio.sleep(0.02)
    assert count() == wanted, what


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < _DESCRIPTORS:
        pytest.skip(f"this needs {_DESCRIPTORS} open files, and {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, _DESCRIPTORS), hard))
    with ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        yield opened


@pytest.fixture(scope="module")
def loop(stack: ExitStack) -> Loop:
    running = Loop()
    stack.callback(running.close)
    return running


@pytest.fixture(scope="module")
def holding(stack: ExitStack, loop: Loop) -> Holding:
    made = Holding()
    stack.callback(lambda: loop.run(made.close()))
    return made


@pytest.fixture(scope="module")
def h2(stack: ExitStack) -> H2Server:
    return stack.enter_context(H2Server())


@pytest.fixture(scope="module")
def failing() -> Failing:
    return Failing()


@pytest.fixture(scope="module")
def case(stack: ExitStack, loop: Loop, holding: Holding, h2: H2Server, failing: Failing) -> dict[str, Case]:
    flaky = stack.enter_context(Server(failing))
    again = {"retries": {"attempts": 1, "retryOn": "5xx"}}
    cases = (
        Case("first", _POLICY, ({"port": loop.run(holding.start())},), levels=(Level.SERVICE,)),
        Case("second", _POLICY, ({"port": h2.port},), protocol="HTTP2", levels=(Level.SERVICE,)),
        Case("third", {**_POLICY, "outlierDetection": {}}, (flaky.endpoint,), levels=(Level.SERVICE,), route=again),
    )
    return {one.name: one for one in cases}


@pytest.fixture(scope="module")
def up(case: dict[str, Case], stack: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Up:
    folder = tmp_path_factory.mktemp("seed")
    written = [manifest for one in case.values() for manifest in one.manifests()]
    return stack.enter_context(Up(folder, {"all.yaml": dump(caller("front", folder), *written)}))


@pytest.fixture(scope="module")
def front(up: Up) -> Caller:
    return Caller("front", up.folder)


def test_a_thousand_connections_and_five_hundred_waiting(
    up: Up, front: Caller, case: dict[str, Case], loop: Loop, holding: Holding
) -> None:
    """In waves: whoever waits for a new connection is one of the 500, too."""
    url, mark = marked(case["first"].url(Level.SERVICE))

    async def crowd() -> Crowd:
        asked = Crowd(front, url)
        for wanted in range(_WAVE, 1001, _WAVE):
            asked.send(_WAVE)
            await reached("held", lambda: holding.held, wanted)
        asked.send(600)
        await reached("refused", lambda: len(asked.answers), 100)
        assert asked.verdicts == {"503 overloaded": 100}
        assert holding.held == 1000
        await holding.release()
        await asked.all()
        return asked

    assert loop.run(crowd()).verdicts == {"200": 1500, "503 overloaded": 100}
    assert refusals(up, mark, 1600) == {"UO": 100, "-": 1500}


def refusals(up: Up, mark: str, count: int) -> Counter[str]:
    """By response flag, of the lines of the log with ``mark``."""

    def found() -> Counter[str] | None:
        lines = [line for line in up.access_log(FRONT) if mark in line["path"]]
        return Counter(line["response_flags"] for line in lines) if len(lines) == count else None

    answer: Counter[str] = eventually(found, 60, every=0.5)
    return answer


def test_two_thousand_requests(front: Caller, case: dict[str, Case], loop: Loop, h2: H2Server) -> None:
    async def crowd() -> Crowd:
        asked = Crowd(front, case["second"].url(Level.SERVICE))
        with h2.holding(3000) as held:
            for wanted in range(_WAVE, 2001, _WAVE):
                asked.send(_WAVE)
                await reached("held", lambda: held.count, wanted)
            asked.send(100)
            await reached("refused", lambda: len(asked.answers), 100)
            assert asked.verdicts == {"503 overloaded": 100}
        await asked.all()
        return asked

    assert loop.run(crowd()).verdicts == {"200": 2000, "503 overloaded": 100}


def test_three_retries(front: Caller, case: dict[str, Case], failing: Failing) -> None:
    with Together(front, *(marked(case["third"].url(Level.SERVICE))[0] for _ in range(10))) as asked:
        asked.answered(7)
        failing.open()
    assert asked.statuses == [200] * 3 + [500] * 7
    assert not any(map(is_overflow, asked.answers)), "the answer is the first try's own"
