from __future__ import annotations

import pytest

from isthmus.cel.language import Checked, check
from isthmus.cel.need import Need, needs

TOKEN, CONSUMER, PEER, SOMEBODY = Need.TOKEN, Need.CONSUMER, Need.PEER, Need.SOMEBODY


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("claims.sub == 'a'", {TOKEN}),
        ("!(claims.sub == 'a')", {TOKEN}),
        ("has(claims.a)", {TOKEN}),
        ("'w' in scopes && plan == 'p'", {TOKEN, CONSUMER}),
        ("'w' in scopes || plan == 'p'", {SOMEBODY}),
        ("claims.a == 1 || claims.b == 2", {TOKEN}),
        ("!(claims.a == 1 && method == 'GET')", set()),
        ("!(claims.a == 1 || method == 'GET')", {TOKEN}),
        ("has(claims.a) ? method == 'GET' : method == 'PUT'", {TOKEN}),
        ("method == 'GET' ? claims.a == 1 : claims.b == 1", {TOKEN}),
        ("method == 'GET' ? claims.a == 1 : true", set()),
        ("(claims.a == 1 || true) == true", set()),
        ("source.namespace == 'x' && consumer == 'a/b'", {PEER, CONSUMER}),
        ("'a' in groups", {SOMEBODY}),
        ("'a' in groups || method == 'GET'", set()),
        ("method == 'GET' && int(query.n) > 1 && headers['a'] == 'x'", set()),
    ],
)
def test_what_it_cannot_be_true_without(text: str, needed: set[Need]) -> None:
    checked = check(text)
    assert isinstance(checked, Checked)
    follows = {SOMEBODY} if needed & {TOKEN, CONSUMER} else set()
    assert needs(checked.expr) == needed | follows
