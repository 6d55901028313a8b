from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509

from isthmus.identity.describe import describe, validity, words
from isthmus.identity.spiffe_id import SpiffeId

from .making import DOMAIN, HOUR, NOW, leaf, make_authority, new_csr

ORDERS = SpiffeId.workload(DOMAIN, "shop", "orders")


def test_an_svid() -> None:
    authority = make_authority()
    found = describe(x509.load_pem_x509_certificate(authority.issue(new_csr(), ORDERS, HOUR, NOW).chain[0].encode()))
    assert (found.names, found.uses, found.authority) == ((f"URI:{ORDERS}",), ("server", "client"), False)
    assert (found.key, found.not_after) == ("EC secp256r1", NOW + HOUR)
    assert found.as_json()["not_after"] == "2026-03-01T13:00:00+00:00"
    assert describe(authority.root).authority


def test_validity_in_plain_words() -> None:
    found = describe(leaf())
    assert validity(found, NOW) == "ends in 1 hour"
    assert validity(found, NOW + HOUR) == "ended a moment ago"
    assert validity(found, NOW - timedelta(minutes=5)) == "begins in 5 minutes: not valid yet"


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(days=400, hours=2, minutes=7), "400 days 2 hours"),
        (timedelta(hours=1, minutes=1, seconds=9), "1 hour 1 minute"),
        (timedelta(days=1), "1 day"),
        (timedelta(seconds=59), "59 seconds"),
        (timedelta(), "a moment"),
    ],
)
def test_spans(span: timedelta, said: str) -> None:
    assert words(span) == said
