"""Addresses in Envoy's form."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from isthmus.envoy_api.packages import core_v3
from isthmus.model.world import Address


def socket_address(address: Address) -> Any:
    """An envoy.config.core.v3.Address over TCP."""
    return core_v3.Address(socket_address=core_v3.SocketAddress(address=address.host, port_value=address.port))


def is_name(host: str) -> bool:
    """Whether DNS has to say what ``host`` is."""
    try:
        ip_address(host)
    except ValueError:
        return True
    return False
