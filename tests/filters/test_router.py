from __future__ import annotations

import pytest

from isthmus.envoy_api import unpack
from isthmus.filters import FILTERS
from isthmus.filters.router import ROUTER, Router


@pytest.mark.parametrize("suppressed", [True, False])
def test_whether_envoys_own_headers_leave(suppressed: bool) -> None:
    (built,) = ROUTER.build(Router(suppress_envoy_headers=suppressed))
    assert built.name == "envoy.filters.http.router"
    assert unpack(built.typed_config).suppress_envoy_headers is suppressed
    assert built.SerializeToString()


def test_it_is_the_last_filter() -> None:
    assert FILTERS[-1] is ROUTER, "Envoy refuses a chain that does not end with it"
