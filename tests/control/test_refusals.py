from __future__ import annotations

from datetime import UTC, datetime

import pytest

from isthmus.ads.status import ProxyStatus, Refusal
from isthmus.control.refusals import ports_refused
from isthmus.model.world import Address, PortKey
from isthmus.xds.name import upstream_listener
from isthmus.xds.snapshot import LISTENER, ROUTE

EDGE, ORDERS = "gateway~shop~edge", "sidecar~shop~orders"
PLACES = [
    PortKey(EDGE, "gateway", 80),
    PortKey(ORDERS, "inbound", 8080),
    PortKey(ORDERS, "app", 8080),
    PortKey(ORDERS, "outbound", 0),
    PortKey(ORDERS, "upstream", 0),
    PortKey(ORDERS, "upstream", 10),
]
ADDRESSES = {key: Address("127.0.0.1", 20000 + number) for number, key in enumerate(PLACES)}
IN_USE = "error adding listener: 'cannot bind '127.0.0.1:20000': Address already in use'"


def status(proxy: str, *refusals: tuple[str, str, str]) -> ProxyStatus:
    """Each refusal as (type, name, message)."""
    refused = tuple(Refusal(kind, name, "1", message, ()) for kind, name, message in refusals)
    return ProxyStatus(proxy, datetime(2026, 1, 1, tzinfo=UTC), "1", False, {}, refused)


@pytest.mark.parametrize(
    ("proxy", "listener", "place"),
    [
        (EDGE, "gateway_80", PortKey(EDGE, "gateway", 80)),
        (ORDERS, "inbound_8080", PortKey(ORDERS, "inbound", 8080)),
        (ORDERS, "outbound", PortKey(ORDERS, "outbound", 0)),
        (ORDERS, upstream_listener(0, "users.shop", 80), PortKey(ORDERS, "upstream", 0)),
        (ORDERS, upstream_listener(10, "users.shop", 80), PortKey(ORDERS, "upstream", 10)),
    ],
)
def test_a_port_in_use_is_told_by_its_listener(proxy: str, listener: str, place: PortKey) -> None:
    assert ports_refused([status(proxy, (LISTENER, listener, IN_USE))], ADDRESSES) == {place}


@pytest.mark.parametrize(
    "refused",
    [
        status(EDGE),
        status(EDGE, (LISTENER, "gateway_80", "no such filter")),
        status(EDGE, (ROUTE, "gateway_80", IN_USE)),
        status(EDGE, (LISTENER, "gateway_81", IN_USE)),
        status(ORDERS, (LISTENER, "gateway_80", IN_USE)),
    ],
)
def test_no_other_refusal_means_a_port(refused: ProxyStatus) -> None:
    assert ports_refused([refused], ADDRESSES) == frozenset()


def test_several_at_once() -> None:
    both = [status(EDGE, (LISTENER, "gateway_80", IN_USE)), status(ORDERS, (LISTENER, "outbound", IN_USE))]
    assert len(ports_refused(both, ADDRESSES)) == 2
