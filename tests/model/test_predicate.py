from __future__ import annotations

from ipaddress import ip_network

import pytest

from isthmus.model.match import Present
from isthmus.model.predicate import (
    FALSE,
    TRUE,
    AnyOf,
    Destination,
    Header,
    Not,
    Predicate,
    RemoteIp,
    SourceIp,
    bind,
)

LOOPBACK, ELSEWHERE = ip_network("127.0.0.0/8"), ip_network("192.0.2.0/24")
NOT_FORWARDED = Not(Header("x-forwarded-for", Present()))


@pytest.mark.parametrize(
    ("written", "bound"),
    [
        (SourceIp(LOOPBACK), TRUE),
        (SourceIp(ELSEWHERE), FALSE),
        (Not(SourceIp(LOOPBACK)), FALSE),
        (RemoteIp(ELSEWHERE), RemoteIp(ELSEWHERE)),
        (RemoteIp(LOOPBACK), AnyOf((RemoteIp(LOOPBACK), NOT_FORWARDED))),
    ],
)
def test_where_connections_have_no_address_callers_have_the_one_that_is_settled(
    written: Predicate, bound: Predicate
) -> None:
    assert bind(written, Destination(8080, "127.0.0.1", callers="127.0.0.1")) == bound
    assert bind(written, Destination(8080, "127.0.0.1")) == written
