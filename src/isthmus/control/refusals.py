"""Ports that an Envoy could not open: learnt from its refusals, and asked anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from isthmus.ads.status import ProxyStatus
from isthmus.model.world import Address, PortKey
from isthmus.xds.name import OUTBOUND_ROUTES, gateway_listener, inbound_listener, upstream_listener
from isthmus.xds.snapshot import LISTENER

_IN_USE = ("Address already in use", "cannot bind")


def ports_refused(statuses: Iterable[ProxyStatus], addresses: Mapping[PortKey, Address]) -> frozenset[PortKey]:
    """The places whose listener was refused because somebody else has its port."""
    refused = [
        (status.proxy_id, refusal.name)
        for status in statuses
        for refusal in status.refusals
        if refusal.type_url == LISTENER and any(words in refusal.message for words in _IN_USE)
    ]
    return frozenset(
        key for proxy_id, name in refused for key in addresses if key.proxy == proxy_id and _listens(key, name)
    )


def _listens(key: PortKey, name: str) -> bool:
    """Whether the listener ``name`` of the place's proxy is the one that stands there."""
    match key.purpose:
        case "gateway":
            return name == gateway_listener(key.number)
        case "inbound":
            return name == inbound_listener(key.number)
        case "outbound":
            return name == OUTBOUND_ROUTES
        case "upstream":
            return name.startswith(upstream_listener(key.number))
    return False
