from __future__ import annotations

import pytest

from isthmus.cel.language import Checked, check
from isthmus.cel.unlike import unlike


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("consumer == 'acme'", ["acme"]),
        ("method == 'GET' || !('acme' != consumer)", ["acme"]),
        ("consumer in ['shop/acme', 'acme', 'a/b/c']", ["acme", "a/b/c"]),
        ("consumer == 'shop/acme'", []),
        ("consumer == claims.consumer", []),
        ("method == 'get'", ["get"]),
        ("path == 'orders' || path == '/orders?a=1' || path == '/orders'", ["orders", "/orders?a=1"]),
        ("host in ['shop.example.com', 'Shop.example.com', 'shop.example.com:80']", None),
        ("source.principal == 'spiffe://cluster.local/ns/shop/sa/a'", ["spiffe://cluster.local/ns/shop/sa/a"]),
        ("source.principal == 'cluster.local/ns/shop/sa/a'", []),
        ("source.serviceAccount == 'shop/a' && source.namespace == 'shop'", ["shop/a"]),
        ("plan == '' && claims.sub == 'a/b'", []),
    ],
)
def test_what_a_variable_never_is(text: str, found: list[str] | None) -> None:
    checked = check(text)
    assert isinstance(checked, Checked)
    wanted = ["Shop.example.com", "shop.example.com:80"] if found is None else found
    assert [one.text for one in unlike(checked.expr)] == wanted
