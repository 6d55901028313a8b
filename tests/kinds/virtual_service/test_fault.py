from __future__ import annotations

from datetime import timedelta

import pytest
from traffic_manifest import ORDERS, Compiled, compiled, networking

from isthmus.filters.fault import Fault


def route(fault: str) -> Compiled:
    """``fault`` begins at 7:12."""
    spec = f"hosts: [orders]\nhttp:\n- fault: {fault}\n  route: [{{destination: {{host: orders}}}}]"
    return compiled(networking("VirtualService", spec), ORDERS)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            "{abort: {httpStatus: 503, percentage: {value: 0.5}}}",
            Fault(delay_percent=0.0, abort_status=503, abort_percent=0.5),
        ),
        (
            "{delay: {fixedDelay: 250ms, percentage: {value: 100}}}",
            Fault(delay=timedelta(milliseconds=250), delay_percent=100.0, abort_percent=0.0),
        ),
        (
            "{delay: {fixedDelay: 1s, percent: 10}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 1}}}",
            Fault(delay=timedelta(seconds=1), delay_percent=10.0, abort_grpc_status=14, abort_percent=1.0),
        ),
        (
            "{abort: {grpcStatus: '7', percentage: {value: 0.0001}}}",
            Fault(delay_percent=0.0, abort_grpc_status=7, abort_percent=0.0001),
        ),
    ],
)
def test_faults(fault: str, expected: Fault) -> None:
    done = route(fault)
    assert done.found == []
    assert done.mesh.routes[0].routes[0].filters == {Fault: expected}


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("{abort: {httpStatus: 503}}", "7:20 warning ISM2122"),
        ("{delay: {fixedDelay: 1s, percentage: {value: 0}}}", "7:20 warning ISM2122"),
    ],
)
def test_a_fault_for_no_request_is_told(fault: str, found: str) -> None:
    done = route(fault)
    assert done.found == [found]
    assert done.mesh.routes[0].routes[0].filters


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("{}", "7:12 error ISM1106"),
        ("{abort: {percentage: {value: 1}}}", "7:20 error ISM1106"),
        ("{abort: {httpStatus: 503, grpcStatus: INTERNAL, percentage: {value: 1}}}", "7:20 error ISM1106"),
        ("{abort: {httpStatus: 99, percentage: {value: 1}}}", "7:33 error ISM1106"),
        ("{abort: {grpcStatus: UNAVAILBLE, percentage: {value: 1}}}", "7:33 error ISM1106"),
        ("{abort: {httpStatus: 503, percentage: {value: 101}}}", "7:58 error ISM1106"),
        ("{abort: {http2Error: x}}", "7:33 error ISM2101"),
        ("{delay: {percentage: {value: 1}}}", "7:20 error ISM1103"),
        ("{delay: {fixedDelay: 1us, percentage: {value: 1}}}", "7:33 error ISM1106"),
    ],
)
def test_faults_that_cannot_be_read(fault: str, found: str) -> None:
    done = route(fault)
    assert done.found == [found]
    assert not done.mesh.routes
