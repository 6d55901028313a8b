from __future__ import annotations

import pytest

from isthmus.cel.issuer import says_issuer
from isthmus.cel.language import Checked, check


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("claims.iss == 'a'", True),
        ("'a' == claims['iss'] && claims.x == 1", True),
        ("claims.iss in ['a', 'b']", True),
        ("claims.iss in [claims.x]", False),
        ("claims.iss == 'a' || claims.x == 1", False),
        ("claims.iss != 'a'", False),
        ("claims.iss == claims.x", False),
        ("has(claims.iss) && claims.sub == 'a'", False),
        ("'a' in groups", False),
    ],
)
def test_of_which_issuer_the_token_must_be(text: str, said: bool) -> None:
    checked = check(text)
    assert isinstance(checked, Checked)
    assert says_issuer(checked.expr) is said
