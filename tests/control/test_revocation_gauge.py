from __future__ import annotations

from isthmus.control.revocation_gauge import revocation_gauges
from isthmus.model.metric import CONTROL_PLANE_METRICS

from .revoking import HOUR, LISTED, NOW, crl, fresh, held, plane, staple, wanted


def test_what_is_held_and_what_is_not() -> None:
    demands = wanted(plane(crl(), staple("Lenient")))
    empty = revocation_gauges(demands, {})
    assert empty == {
        "isthmus_crl_next_update_timestamp_seconds": {(LISTED,): 0},
        "isthmus_crl_revoked": {(LISTED,): 0},
        "isthmus_ocsp_staple_next_update_timestamp_seconds": {("shop/shop",): 0},
    }
    found = revocation_gauges(demands, {source: fresh(held(source, HOUR, 1, 2)) for source in demands.sources})
    end = (NOW + HOUR).timestamp()
    assert [list(values.values()) for values in found.values()] == [[end], [2], [end]]
    assert found.keys() <= {metric.name for metric in CONTROL_PLANE_METRICS}
