from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from isthmus.errors import RevocationUnavailable
from isthmus.revocation.source import CrlSource, StapleSource
from tests.real.pki import Authority

from .making import HOUR, NOW, answer, crl

CA = Authority("clients")
LEAF = CA.issue("a.example")
LIST = CrlSource("http://ca.example/crl", CA.pem)
STAPLE = StapleSource(
    "http://ca.example/ocsp",
    LEAF.certificate.public_bytes(Encoding.DER),
    CA.certificate.public_bytes(Encoding.DER),
)


def test_a_list_is_got_and_an_answer_asked_for() -> None:
    assert LIST.request() is None
    body = STAPLE.request()
    assert body is not None
    assert ocsp.load_der_ocsp_request(body).serial_number == LEAF.certificate.serial_number


def test_each_is_read_as_what_it_is() -> None:
    assert LIST.read(crl(CA, 1), NOW).revoked == {1}
    assert STAPLE.read(answer(LEAF, CA), NOW).next_update == NOW + HOUR


def test_their_files_have_names_of_their_own() -> None:
    assert len({LIST.key, STAPLE.key, CrlSource(LIST.url, Authority("clients").pem).key}) == 3


@pytest.mark.parametrize(
    ("status", "hours", "reason"),
    [
        (ocsp.OCSPCertStatus.REVOKED, 1, "revoked"),
        (ocsp.OCSPCertStatus.UNKNOWN, 1, "unknown"),
        (ocsp.OCSPCertStatus.GOOD, None, "how long"),
    ],
)
def test_only_good_news_with_an_end_are_stapled(status: ocsp.OCSPCertStatus, hours: int | None, reason: str) -> None:
    until = None if hours is None else NOW + hours * HOUR
    with pytest.raises(RevocationUnavailable, match=reason):
        STAPLE.read(answer(LEAF, CA, status, until=until), NOW)


def test_nothing_secret_or_long_is_shown() -> None:
    assert repr(LIST) == "CrlSource(url='http://ca.example/crl')"
    assert str(STAPLE) == "OCSP http://ca.example/ocsp"
