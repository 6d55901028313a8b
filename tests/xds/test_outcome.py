"""Each request is in one of the two, and only in one: what Envoy's own filters say of statuses, held together."""

from __future__ import annotations

from typing import Any

import pytest

from isthmus.xds.outcome import went_otherwise, went_well


def passes(wanted: Any, status: int, grpc: int | None) -> bool:
    """As Envoy's access log filters decide. ``grpc``: the status, of a request of gRPC."""
    match wanted.WhichOneof("filter_specifier"):
        case "and_filter":
            return all(passes(one, status, grpc) for one in wanted.and_filter.filters)
        case "or_filter":
            return any(passes(one, status, grpc) for one in wanted.or_filter.filters)
        case "status_code_filter":
            comparison = wanted.status_code_filter.comparison
            bound = comparison.value.default_value
            assert comparison.value.runtime_key, "Envoy wants one"
            return status >= bound if comparison.op == comparison.GE else status <= bound
        case "header_filter":
            return (grpc is not None) is not wanted.header_filter.header.invert_match
        case "grpc_status_filter":
            return (grpc in wanted.grpc_status_filter.statuses) is not wanted.grpc_status_filter.exclude
    raise AssertionError(wanted)


@pytest.mark.parametrize(
    ("status", "grpc", "well"),
    [
        (200, None, True),
        (204, None, True),
        (299, None, True),
        (200, 0, True),
        (200, 7, False),
        (200, 16, False),
        (403, 7, False),
        (0, None, False),
        (101, None, False),
        (301, None, False),
        (401, None, False),
        (503, None, False),
    ],
)
def test_each_request_is_in_one_of_them(status: int, grpc: int | None, well: bool) -> None:
    assert passes(went_well(), status, grpc) is well
    assert passes(went_otherwise(), status, grpc) is not well
