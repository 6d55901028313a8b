from __future__ import annotations

from datetime import UTC, datetime, timedelta

from isthmus.analyze.lifetime import CHECK
from tests.analyze.manifest import found
from tests.kinds.credential import secret
from tests.real.pki import Authority, Flaw

ROOT = Authority("root")
NOW = datetime.now(UTC)


def test_what_is_over_and_what_has_not_begun() -> None:
    expired, early = (ROOT.issue("a", flaw=flaw) for flaw in (Flaw.EXPIRED, Flaw.NOT_YET_VALID))
    for leaf, words in ((expired, "leaf expired at"), (early, "leaf is not valid before")):
        (one,) = found(CHECK, secret("tls", tls_crt=leaf.chain, tls_key=leaf.key))
        assert one.startswith("6 error ISM5060: the certificate of ")
        assert words in one
    (overdue,) = found(CHECK, secret("ca", kind="Opaque", ca_crt=ROOT.pem, ca_crl=ROOT.revoke(ended=True)))
    assert overdue.startswith("7 error ISM5061: the list of revoked certificates of root was to be replaced by ")


def test_what_is_in_its_time() -> None:
    good = ROOT.issue("a")
    text = secret("tls", tls_crt=good.chain, tls_key=good.key, ca_crt=ROOT.pem, ca_crl=ROOT.revoke())
    assert found(CHECK, text) == []
    later = [one.split(":")[0] for one in found(CHECK, text, now=NOW + timedelta(days=2))]
    assert later == ["6 error ISM5060", "8 error ISM5060", "9 error ISM5061"]
