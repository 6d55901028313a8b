from __future__ import annotations

from datetime import timedelta

import pytest
from traffic_manifest import ORDERS, Compiled, compiled, networking

from isthmus.model.traffic_policy import OutlierDetection


def outlier(written: str) -> Compiled:
    """``written`` begins at 6:37."""
    spec = f"host: orders\ntrafficPolicy: {{outlierDetection: {{{written}}}}}"
    return compiled(networking("DestinationRule", spec, "orders"), ORDERS)


def read(done: Compiled) -> OutlierDetection | None:
    return done.mesh.services["orders.shop.svc.cluster.local"].policy.traffic.everywhere.outlier_detection


def test_everything() -> None:
    done = outlier(
        "consecutive5xxErrors: 5, consecutiveGatewayErrors: 4, splitExternalLocalOriginErrors: true, "
        "consecutiveLocalOriginFailures: 3, interval: 10s, baseEjectionTime: 30s, maxEjectionPercent: 50, "
        "minHealthPercent: 20, outlierDetectionHttpErrorCodes: [429, 503]"
    )
    assert done.found == []
    assert read(done) == OutlierDetection(
        5, 4, True, 3, timedelta(seconds=10), timedelta(seconds=30), 50, 20, (429, 503)
    )
    assert read(outlier("")) == OutlierDetection()


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("consecutive5xxErrors: -1", "6:60 error ISM1106"),
        ("interval: 0s", "6:48 error ISM1106"),
        ("baseEjectionTime: soon", "6:56 error ISM1106"),
        ("maxEjectionPercent: 101", "6:58 error ISM1106"),
        ("minHealthPercent: -1", "6:56 error ISM1106"),
        ("consecutiveLocalOriginFailures: 3", "6:70 error ISM1106"),
        ("splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 0", "6:108 error ISM1106"),
        ("outlierDetectionHttpErrorCodes: [200]", "6:71 error ISM1106"),
    ],
)
def test_what_no_proxy_would_take(written: str, found: str) -> None:
    assert outlier(written).found == [found]
