"""Addresses in Envoy's form."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from isthmus.envoy_api.packages import core_v3
from isthmus.model.world import Address

_SOCKET_MODE = 0o600


def socket_address(address: Address) -> Any:
    """An envoy.config.core.v3.Address: TCP, or a Unix socket that only its user may open."""
    if address.is_unix:
        return core_v3.Address(pipe=core_v3.Pipe(path=address.host, mode=_SOCKET_MODE))
    return core_v3.Address(socket_address=core_v3.SocketAddress(address=address.host, port_value=address.port))


def is_name(host: str) -> bool:
    """Whether DNS has to say what ``host`` is."""
    if host.startswith("/"):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False
