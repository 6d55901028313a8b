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


def test_a_unix_socket() -> None:
    address = Address.unix("/run/isthmus-1/orders.in")
    built = socket_address(address).pipe
    assert (built.path, built.mode) == ("/run/isthmus-1/orders.in", 0o600)
    assert (str(address), address.is_unix) == ("unix:///run/isthmus-1/orders.in", True)
    assert not is_name(address.host)
    assert not Address("127.0.0.1", 80).is_unix
