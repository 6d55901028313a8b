"""Timeouts, retries and faults on purpose, on real Envoys: what the caller gets, and how often a backend was asked."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.traffic import (
    Caller,
    Manifest,
    Obedient,
    Try,
    caller,
    dump,
    gateway,
    manifest,
    routes,
    server,
    service,
    to,
    within_bounds,
    workload,
)
from tests.real.up import Up, eventually, free_port

pytestmark = pytest.mark.real

HTTP = "VirtualService.spec.http[]."
RETRIES = HTTP + "retries."
FAULT = HTTP + "fault."
UNAVAILABLE = "14"
_SHARE = 0.25
_ASKED = 800

TABLES: dict[str, Manifest] = {
    "plain": {},
    "timeout": {"timeout": "1s"},
    "timeout-over-all": {"timeout": "0.5s", "retries": {"attempts": 10, "perTryTimeout": "0.2s", "retryOn": "5xx"}},
    "no-retry": {"retries": {"attempts": 0}},
    "retry-5xx": {"retries": {"attempts": 3, "retryOn": "5xx"}},
    "retry-once": {"retries": {"attempts": 1, "retryOn": "5xx"}},
    "retry-status": {"retries": {"attempts": 2, "retryOn": "gateway-error, 418"}},
    "retry-default": {"retries": {"attempts": 1}},
    "per-try": {"retries": {"attempts": 1, "perTryTimeout": "1s", "retryOn": "5xx"}},
    "delay": {"fault": {"delay": {"fixedDelay": "1s", "percentage": {"value": 100}}}},
    "delay-some": {"fault": {"delay": {"fixedDelay": "0.001s", "percentage": {"value": _SHARE * 100}}}},
    "delay-percent": {"fault": {"delay": {"fixedDelay": "0.001s", "percent": int(_SHARE * 100)}}},
    "delay-none": {"fault": {"delay": {"fixedDelay": "1s"}}},
    "abort": {
        "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}},
        "retries": {"attempts": 3, "retryOn": "418"},
    },
    "abort-some": {"fault": {"abort": {"httpStatus": 503, "percentage": {"value": _SHARE * 100}}}},
    "abort-none": {"fault": {"abort": {"httpStatus": 503}}},
    "abort-grpc": {"fault": {"abort": {"grpcStatus": "RESOURCE_EXHAUSTED", "percentage": {"value": 100}}}},
    "abort-grpc-number": {"fault": {"abort": {"grpcStatus": "5", "percentage": {"value": 100}}}},
    "delay-and-abort": {
        "fault": {
            "delay": {"fixedDelay": "0.001s", "percentage": {"value": 100}},
            "abort": {"httpStatus": 418, "percentage": {"value": 100}},
        }
    },
}


def host(name: str) -> str:
    return f"{name}.example.com"


def external(name: str, *ports: int, **spec: Any) -> Manifest:
    """A service beside the mesh, at ``ports`` of the loopback."""
    endpoints = [{"address": "127.0.0.1", "ports": {"http": port}} for port in ports]
    where = {"hosts": [host(name)], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}
    return manifest("ServiceEntry", name, {**where, "resolution": "STATIC", "endpoints": endpoints, **spec})


def manifests(port: int, dead: int, full: int, folder: Path) -> str:
    hasty = {"connectionPool": {"tcp": {"connectTimeout": "0.3s"}}}
    return dump(
        gateway("edge", server(80)),
        *(
            routes(name, [host(name)], {**http, "route": [to("web")]}, gateways=["edge"])
            for name, http in TABLES.items()
        ),
        service("web"),
        service("aborted", selector={"app": "web"}),
        routes("aborted", ["aborted"], {**TABLES["abort"], "route": [to("aborted")]}),
        workload("web-1", port, {"app": "web"}),
        external("half-dead", port, dead),
        external("full", full),
        external("full-hasty", full),
        manifest("DestinationRule", "full-hasty", {"host": host("full-hasty"), "trafficPolicy": hasty}),
        routes("half-dead", [host("half-dead")], {"route": [to(host("half-dead"))]}, gateways=["edge"]),
        *(
            routes(
                name,
                [host(name)],
                {"route": [to(host(served))], "retries": {"attempts": 0}, "timeout": "1.5s"},
                gateways=["edge"],
            )
            for name, served in (("half-dead-once", "half-dead"), ("full", "full"), ("full-hasty", "full-hasty"))
        ),
        caller("front", folder),
    )


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port to which no connection is made: nobody accepts, and the queue is full."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("failures")


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend("web", Obedient()) as backend:
        yield backend


@pytest.fixture(scope="module")
def up(folder: Path, backend: Backend) -> Iterator[Up]:
    with (
        full_backlog() as full,
        Up(folder, {"all.yaml": manifests(backend.port, free_port(), full, folder)}) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def client(up: Up) -> Iterator[httpx.Client]:
    with up.client() as client:
        yield client


@pytest.fixture(scope="module")
def front(up: Up, folder: Path) -> Caller:
    return Caller("front", folder)


def ask(up: Up, client: httpx.Client, name: str, path: str = "/", **options: Any) -> httpx.Response:
    return up.send(client, "GET", f"http://{host(name)}{path}", **options)


def asked(up: Up, client: httpx.Client, backend: Backend, table: str, **told: str) -> tuple[int, int]:
    """The status that came back, and how often the backend was asked."""
    tried = Try(backend, **told)
    status = ask(up, client, table, headers=tried.headers).status_code
    return status, len(tried.seen)


@enforces(HTTP + "timeout")
def test_timeout(up: Up, client: httpx.Client, backend: Backend) -> None:
    assert asked(up, client, backend, "timeout", x_delay="2") == (504, 1)
    assert asked(up, client, backend, "timeout") == (200, 1)
    assert asked(up, client, backend, "plain", x_delay="1.2") == (200, 1)


@enforces(HTTP + "timeout")
def test_timeout_is_for_all_attempts_together(up: Up, client: httpx.Client, backend: Backend) -> None:
    status, attempts = asked(up, client, backend, "timeout-over-all", x_delay="1")
    assert status == 504
    assert attempts <= 3


@enforces(RETRIES + "perTryTimeout")
def test_each_attempt_has_its_timeout(up: Up, client: httpx.Client, backend: Backend) -> None:
    assert asked(up, client, backend, "per-try", x_delay="2,0") == (200, 2)
    assert asked(up, client, backend, "per-try", x_delay="2") == (504, 2)
    assert asked(up, client, backend, "retry-once", x_delay="1.2,0") == (200, 1)


@enforces(RETRIES + "attempts")
@pytest.mark.parametrize(
    ("table", "answers", "expected"),
    [
        ("retry-5xx", "503", (503, 4)),
        ("retry-5xx", "503,500,200", (200, 3)),
        ("retry-5xx", "200", (200, 1)),
        ("retry-once", "503", (503, 2)),
        ("retry-once", "503,500,200", (500, 2)),
    ],
)
def test_attempts(
    up: Up, client: httpx.Client, backend: Backend, table: str, answers: str, expected: tuple[int, int]
) -> None:
    assert asked(up, client, backend, table, x_answer=answers) == expected


@enforces(RETRIES + "retryOn")
@pytest.mark.parametrize(
    ("table", "answers", "expected"),
    [
        ("retry-status", "418,200", (200, 2)),
        ("retry-status", "502,418,200", (200, 3)),
        ("retry-status", "500,200", (500, 1)),
        ("retry-5xx", "418,200", (418, 1)),
        ("plain", "503,200", (503, 1)),
    ],
)
def test_what_is_tried_again(
    up: Up, client: httpx.Client, backend: Backend, table: str, answers: str, expected: tuple[int, int]
) -> None:
    assert asked(up, client, backend, table, x_answer=answers) == expected


@enforces(RETRIES + "attempts")
@pytest.mark.parametrize(("table", "attempts"), [("plain", 3), ("no-retry", 1), ("retry-default", 2)])
def test_default_is_two_retries_of_what_was_not_done(
    up: Up, client: httpx.Client, backend: Backend, table: str, attempts: int
) -> None:
    assert asked(up, client, backend, table, x_grpc=UNAVAILABLE) == (200, attempts)


def test_calls_without_a_virtual_service_have_the_default_retries(front: Caller, backend: Backend) -> None:
    tried = Try(backend, x_grpc=UNAVAILABLE)
    assert front.status("http://web.shop.svc.cluster.local/", headers=tried.headers) == 200
    assert len(tried.seen) == 3


def test_retry_goes_to_another_endpoint(up: Up, client: httpx.Client) -> None:
    """One of two endpoints refuses connections: by default nobody notices, without retries half of the callers do.

    Nearly nobody: Envoy chooses by chance, again up to five times where it chose an endpoint that had its turn. Of 200
    requests 0.1 fail, and six do once in 10^9; a retry that went anywhere would leave 25.
    """

    def failed(name: str) -> int:
        found = [ask(up, client, name).status_code for _ in range(200)]
        assert set(found) <= {200, 503}
        return found.count(503)

    assert failed("half-dead") < 6
    assert 50 < failed("half-dead-once") < 150


@enforces("DestinationRule.spec.trafficPolicy.connectionPool.tcp.connectTimeout")
def test_connect_timeout(up: Up, client: httpx.Client) -> None:
    """Before the route's own timeout; the default, 10 s, is after it."""
    assert ask(up, client, "full-hasty").status_code == 503
    assert ask(up, client, "full").status_code == 504


def flags(up: Up, name: str) -> list[str]:
    """What Envoy says happened to each request of a host."""
    lines = up.access_log("gateway~shop~edge")
    return [line["response_flags"] or "" for line in lines if line["authority"].startswith(f"{host(name)}:")]


@enforces(FAULT + "delay.fixedDelay", FAULT + "delay.percentage.value")
def test_delay(up: Up, client: httpx.Client) -> None:
    answer = ask(up, client, "delay")
    assert answer.status_code == 200
    # Envoy counts in whole milliseconds of its loop's last look at the clock: it may begin a moment late.
    assert answer.elapsed.total_seconds() >= 0.99
    assert min(ask(up, client, "plain").elapsed.total_seconds() for _ in range(9)) < 0.99
    assert min(ask(up, client, "delay-none").elapsed.total_seconds() for _ in range(9)) < 0.99


@pytest.mark.parametrize(
    "table",
    [
        pytest.param("delay-some", marks=enforces(FAULT + "delay.percentage.value")),
        pytest.param("delay-percent", marks=enforces(FAULT + "delay.percent")),
    ],
)
def test_share_of_delays(up: Up, client: httpx.Client, table: str) -> None:
    assert {ask(up, client, table).status_code for _ in range(_ASKED)} == {200}
    found: list[str] = eventually(lambda: [*flags(up, table)] if len(flags(up, table)) == _ASKED else None)
    delayed = sum("DI" in each for each in found)
    assert within_bounds(delayed, _ASKED, _SHARE), delayed


@enforces(FAULT + "abort.httpStatus", FAULT + "abort.percentage.value")
def test_abort_asks_no_backend_and_is_not_tried_again(up: Up, client: httpx.Client, backend: Backend) -> None:
    assert asked(up, client, backend, "abort") == (418, 0)
    assert asked(up, client, backend, "abort-none") == (200, 1)
    assert asked(up, client, backend, "delay-and-abort") == (418, 0)
    assert eventually(lambda: flags(up, "abort")) == ["FI"]


@enforces(FAULT + "abort.percentage.value")
def test_share_of_aborts(up: Up, client: httpx.Client, backend: Backend) -> None:
    tried = Try(backend)
    found = [ask(up, client, "abort-some", headers=tried.headers).status_code for _ in range(_ASKED)]
    assert set(found) == {200, 503}
    assert within_bounds(found.count(503), _ASKED, _SHARE), found.count(503)
    assert len(tried.seen) == found.count(200)


@enforces(FAULT + "abort.grpcStatus")
@pytest.mark.parametrize(("table", "status"), [("abort-grpc", "8"), ("abort-grpc-number", "5")])
def test_grpc_abort(up: Up, client: httpx.Client, backend: Backend, table: str, status: str) -> None:
    tried = Try(backend)
    answer = ask(up, client, table, headers={**tried.headers, "content-type": "application/grpc", "te": "trailers"})
    assert (answer.status_code, answer.headers["grpc-status"]) == (200, status)
    assert not tried.seen
    plain = ask(up, client, "plain", headers={**tried.headers, "content-type": "application/grpc", "te": "trailers"})
    assert "grpc-status" not in plain.headers


def test_fault_in_the_mesh_is_done_by_the_callers_proxy(front: Caller, backend: Backend) -> None:
    tried = Try(backend)
    assert front.status("http://aborted.shop.svc.cluster.local/", headers=tried.headers) == 418
    assert not tried.seen
