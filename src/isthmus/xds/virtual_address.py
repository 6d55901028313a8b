"""The addresses by which a program that knows no proxy calls services: declared ones, else ours.

Source: Istio's automatic address allocation, 240.240.0.0/16 (``ISTIO_META_DNS_AUTO_ALLOCATE``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, ip_address

from isthmus.model.cluster import Service

_ALLOCATED = IPv4Network("240.240.0.0/16")
"""Of the range that nobody uses (RFC 1112, section 4)."""
_COUNT = _ALLOCATED.num_addresses - 2
"""Without the network's own address and the last one."""


def virtual_addresses(services: Iterable[Service]) -> Mapping[str, tuple[IPv4Address, ...]]:
    """By host: the IPv4 addresses that mean a service; of a wildcard host only what it declares.

    A service that declares none has one of ours. It comes from the hash of its name, so that it is the same in every
    sidecar and after every edit; of two with one hash, the later in the alphabet has the next free one. Past 65,534
    services the rest have none.
    """
    found: dict[str, tuple[IPv4Address, ...]] = {}
    for service in services:
        declared = (ip_address(address) for address in service.addresses)
        found[service.host] = tuple(address for address in declared if isinstance(address, IPv4Address))
    wanting = sorted(host for host, declared in found.items() if not declared and "*" not in host)
    return found | {host: (address,) for host, address in _allocate(wanting).items()}


def _allocate(hosts: Iterable[str]) -> dict[str, IPv4Address]:
    taken: set[int] = set()
    given: dict[str, IPv4Address] = {}
    for host in hosts:
        if len(taken) == _COUNT:
            break
        number = int.from_bytes(hashlib.blake2b(host.encode(), digest_size=8).digest()) % _COUNT
        while number in taken:
            number = (number + 1) % _COUNT
        taken.add(number)
        given[host] = _ALLOCATED[1 + number]
    return given
