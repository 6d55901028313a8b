from __future__ import annotations

from isthmus.control.secret_value import secret_value

from .revoking import LEAF, ROOT, plane


def test_the_first_key_that_there_is() -> None:
    known = plane()
    assert secret_value(known.compiled.value, "shop/shop", ("cert", "tls.crt")) == LEAF.chain + ROOT.pem
    assert secret_value(known.compiled.value, "shop/shop", ("ca.crt",)) is None
    assert secret_value(known.compiled.value, "other/shop", ("tls.crt",)) is None
