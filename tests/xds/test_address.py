from __future__ import annotations

import pytest

from isthmus.model.world import Address
from isthmus.xds.address import is_name, socket_address


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address(host: str) -> None:
    built = socket_address(Address(host, 80)).socket_address
    assert (built.address, built.port_value) == (host, 80)
    assert not is_name(host)


def test_a_name() -> None:
    assert is_name("orders.example.com")
    assert is_name("localhost")
