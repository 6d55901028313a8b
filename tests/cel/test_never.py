from __future__ import annotations

import pytest

from isthmus.cel.language import Checked, check
from isthmus.cel.never import contradiction


@pytest.mark.parametrize(
    ("text", "never"),
    [
        ("false", True),
        ("method == 'GET' && false", True),
        ("claims.a == 'x' && claims.a == 'y'", True),
        ("claims.a == 'x' && ('y' == claims.a && method == 'GET')", True),
        ("claims.a in ['x', 'y'] && claims.a == 'z'", True),
        ("claims.a in ['x', 'y'] && claims.a != 'x' && claims.a != 'y'", True),
        ("claims.a == true && claims.a == false", True),
        ("claims.a == 'x' && claims.b == 'y'", False),
        ("claims.a == 'x' || claims.a == 'y'", False),
        ("claims.a == 1 && claims.a == 1.0", False),
        ("claims.a in ['x', 'y'] && claims.a != 'x'", False),
        ("'x' in claims.a && 'y' in claims.a", False),
        ("true", False),
    ],
)
def test_a_contradiction(text: str, never: bool) -> None:
    checked = check(text)
    assert isinstance(checked, Checked)
    assert (contradiction(checked.expr) is not None) is never
