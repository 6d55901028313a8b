from __future__ import annotations

import base64
import json

import pytest
from starlette.datastructures import Headers

from isthmus.demo.shop.seen import Seen, seen


def payload(claims: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("header", "caller"),
    [
        ("", None),
        ("By=spiffe://td/me;Hash=ab", None),
        ("By=spiffe://td/me;URI=spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/b"),
        ('By=spiffe://td/me;Subject="CN=x,O=y;URI=spiffe://td/forged";URI=spiffe://td/real', "spiffe://td/real"),
        ("URI=spiffe://td/first,By=spiffe://td/me;URI=spiffe://td/last", "spiffe://td/last"),
        ('By=x;Subject="a\\",b=\\"";uri="spiffe://td/quoted"', "spiffe://td/quoted"),
    ],
)
def test_caller_is_the_uri_of_the_last_element(header: str, caller: str | None) -> None:
    assert seen(Headers({"x-forwarded-client-cert": header})).caller == caller


def test_claims_come_from_the_payload_header() -> None:
    found = seen(Headers({"x-jwt-payload": payload({"sub": "alice", "role": "staff"})}))
    assert found == Seen(None, {"sub": "alice", "role": "staff"})
    assert (found.subject, found.staff) == ("alice", True)
    assert found.as_json("orders") == {"service": "orders", "caller": None, "subject": "alice"}


@pytest.mark.parametrize("header", ["", "%%%", "e30", payload(["sub"]), payload({"sub": 7}), "w6k"])
def test_what_is_no_payload_is_nobody(header: str) -> None:
    found = seen(Headers({"x-jwt-payload": header}))
    assert found.subject is None
    assert not found.staff
