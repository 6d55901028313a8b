from __future__ import annotations

import time
from datetime import timedelta

import pytest

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import type_v3
from isthmus.filters.fault import FAULT, NAME, Fault, build_route
from isthmus.filters.router import ROUTER, Router

from .running import Web, answer, running


def test_on_the_chain_it_does_nothing():
    (message,) = FAULT.build(Fault())
    fault = unpack(message.typed_config)
    assert message.name == NAME
    assert not fault.HasField("delay")
    assert not fault.HasField("abort")


@pytest.mark.parametrize(("percent", "numerator"), [(100, 1_000_000), (0.1, 1000), (33.3333, 333_333), (0, 0)])
def test_shares_are_exact(percent, numerator):
    fault = build_route(Fault(timedelta(seconds=1.5), percent, abort_status=503, abort_percent=percent))
    for share in (fault.delay.percentage, fault.abort.percentage):
        assert (share.numerator, share.denominator) == (numerator, type_v3.FractionalPercent.MILLION)
    assert fault.delay.fixed_delay.ToTimedelta() == timedelta(seconds=1.5)
    assert fault.abort.http_status == 503


def test_grpc_abort():
    fault = build_route(Fault(abort_grpc_status=14, abort_percent=50))
    assert fault.abort.grpc_status == 14
    assert fault.abort.percentage.numerator == 500_000
    assert not fault.HasField("delay")


@pytest.mark.real
def test_what_a_route_is_told_happens_there_and_nowhere_else(tmp_path):
    faults = {
        "/always": Fault(abort_status=418),
        "/never": Fault(abort_status=418, abort_percent=0),
        "/late": Fault(delay=timedelta(milliseconds=200)),
        "/both": Fault(delay=timedelta(milliseconds=200), abort_status=503),
        "/some": Fault(abort_status=503, abort_percent=20),
        "/grpc": Fault(abort_grpc_status=14),
    }
    routes = [answer(path, per_filter={NAME: build_route(fault)}) for path, fault in faults.items()]
    web = Web("web", [*FAULT.build(Fault()), *ROUTER.build(Router())], [*routes, answer("/")])
    with running(tmp_path, [web]) as envoy:
        assert envoy.get("web", "/").status_code == 200
        assert envoy.get("web", "/always").status_code == 418
        assert envoy.get("web", "/never").status_code == 200
        for path, status in (("/late", 200), ("/both", 503)):
            started = time.monotonic()
            assert envoy.get("web", path).status_code == status
            assert time.monotonic() - started >= 0.19  # Envoy's timers count whole milliseconds
        answers = [envoy.get("web", "/some").status_code for _ in range(400)]
        # 80 expected of 400; a binomial of this size leaves 40..125 once in a hundred million runs.
        assert 40 <= answers.count(503) <= 125
        assert set(answers) == {200, 503}
        grpc = envoy.get("web", "/grpc", "POST", headers={"content-type": "application/grpc"})
        assert (grpc.status_code, grpc.headers["grpc-status"]) == (200, "14")
