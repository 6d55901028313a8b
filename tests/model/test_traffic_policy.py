from __future__ import annotations

import pytest

from isthmus.model.traffic_policy import (
    ClientTls,
    ConnectionPool,
    LeveledPolicy,
    LoadBalancer,
    OutlierDetection,
    TlsMode,
    TrafficPolicy,
)

POOL, OTHER_POOL = ConnectionPool(max_connections=1), ConnectionPool(max_connections=2)
BALANCER, OUTLIER, TLS = LoadBalancer(), OutlierDetection(), ClientTls(TlsMode.DISABLE)


def test_blocks_are_overridden_whole() -> None:
    whole = TrafficPolicy(POOL, OUTLIER, BALANCER, TLS)
    assert whole.overridden_by(TrafficPolicy()) == whole
    assert TrafficPolicy().overridden_by(whole) == whole
    assert whole.overridden_by(TrafficPolicy(OTHER_POOL)) == TrafficPolicy(OTHER_POOL, OUTLIER, BALANCER, TLS)


@pytest.mark.parametrize(
    ("subset", "expected"),
    [
        (LeveledPolicy(), TrafficPolicy(load_balancer=BALANCER)),
        (LeveledPolicy(TrafficPolicy(OTHER_POOL)), TrafficPolicy(OTHER_POOL, load_balancer=BALANCER)),
        (LeveledPolicy(TrafficPolicy(OTHER_POOL), {80: TrafficPolicy(tls=TLS)}), TrafficPolicy(tls=TLS)),
        (LeveledPolicy(ports={81: TrafficPolicy(tls=TLS)}), TrafficPolicy(load_balancer=BALANCER)),
    ],
)
def test_a_subset_is_over_its_services_port(subset: LeveledPolicy, expected: TrafficPolicy) -> None:
    service = LeveledPolicy(TrafficPolicy(POOL, OUTLIER), {80: TrafficPolicy(load_balancer=BALANCER)})
    assert subset.within(service, 80) == expected


def test_a_port_is_silent_about_what_it_does_not_say() -> None:
    service = LeveledPolicy(TrafficPolicy(POOL), {80: TrafficPolicy(tls=TLS)})
    assert service.at(80) == TrafficPolicy(tls=TLS)
    assert service.at(81) == TrafficPolicy(POOL)
