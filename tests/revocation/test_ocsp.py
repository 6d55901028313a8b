from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from isthmus.errors import RevocationUnavailable
from isthmus.revocation.ocsp import CertificateStatus, build_request, read_response, responder
from tests.real.pki import Authority, Flaw, rsa_key
from tests.real.revocation_server import answered_at

from .making import HOUR, NOW, OCSP_SIGNING, altered, answer

CA = Authority("clients")
RSA = Authority("rsa", key=rsa_key())
STRANGER = Authority("clients")
LEAF = CA.issue("a.example")
OTHER = CA.issue("b.example")
TRY_LATER = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER)
DELEGATE = CA.issue("ocsp.example", purposes=[OCSP_SIGNING])


def test_the_question_names_certificate_and_issuer() -> None:
    asked = ocsp.load_der_ocsp_request(build_request(LEAF.certificate, CA.certificate))
    assert asked.serial_number == LEAF.certificate.serial_number


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (ocsp.OCSPCertStatus.GOOD, CertificateStatus.GOOD),
        (ocsp.OCSPCertStatus.REVOKED, CertificateStatus.REVOKED),
        (ocsp.OCSPCertStatus.UNKNOWN, CertificateStatus.UNKNOWN),
    ],
)
@pytest.mark.parametrize("by_hash", [False, True])
def test_an_answer_of_the_issuer(said: ocsp.OCSPCertStatus, status: CertificateStatus, by_hash: bool) -> None:
    found = read_response(answer(LEAF, CA, said, by_hash=by_hash), LEAF.certificate, CA.certificate, NOW)
    assert (found.status, found.next_update) == (status, NOW + HOUR)


def test_an_answer_signed_with_rsa() -> None:
    leaf = RSA.issue("a.example")
    assert read_response(answer(leaf, RSA), leaf.certificate, RSA.certificate, NOW).status is CertificateStatus.GOOD


def test_an_answer_of_whom_the_issuer_appointed() -> None:
    der = answer(LEAF, CA, signer=DELEGATE, beside=[DELEGATE.certificate])
    assert read_response(der, LEAF.certificate, CA.certificate, NOW).status is CertificateStatus.GOOD


def test_an_answer_without_an_end() -> None:
    assert read_response(answer(LEAF, CA, until=None), LEAF.certificate, CA.certificate, NOW).next_update is None


def test_an_old_answer_without_an_end_is_not_shown_for_ever() -> None:
    with pytest.raises(RevocationUnavailable, match="is old"):
        read_response(answer(LEAF, CA, since=NOW - 2 * HOUR, until=None), LEAF.certificate, CA.certificate, NOW)


def test_whatever_comes_in_place_of_an_answer_is_refused_and_ends_nothing() -> None:
    der, chance, believed = answer(LEAF, CA), Random(7), 0
    for _ in range(3000):
        data = bytearray(der)
        data[chance.randrange(len(data))] = chance.randrange(256)
        with suppress(RevocationUnavailable):
            believed += read_response(bytes(data), LEAF.certificate, CA.certificate, NOW).der != der
    assert believed == 0


def delegated(**written: object) -> bytes:
    signer = CA.issue("ocsp.example", **written)  # type: ignore[arg-type]
    return answer(LEAF, CA, signer=signer, beside=[signer.certificate])


def by_a_stranger() -> bytes:
    signer = STRANGER.issue("ocsp.example", purposes=[OCSP_SIGNING])
    return answer(LEAF, CA, signer=signer, beside=[signer.certificate, STRANGER.certificate])


@pytest.mark.parametrize(
    ("der", "reason"),
    [
        (b"", "not an OCSP response"),
        (b"<html>not found</html>", "not an OCSP response"),
        (TRY_LATER, "TRY_LATER"),
        (answer(OTHER, CA), "another certificate"),
        (answer(LEAF, STRANGER), "another certificate"),
        (answer(LEAF, CA, signer=STRANGER), "signed neither"),
        (altered(answer(LEAF, CA)), "signed neither"),
        (by_a_stranger(), "signed neither"),
        (delegated(), "signed neither"),
        (delegated(purposes=None), "signed neither"),
        (delegated(purposes=[OCSP_SIGNING], flaw=Flaw.EXPIRED), "signed neither"),
        (answer(LEAF, CA, signer=LEAF, beside=[LEAF.certificate]), "signed neither"),
        (answer(LEAF, CA, since=NOW + HOUR, until=NOW + 2 * HOUR), "of the future"),
        (answer(LEAF, CA, since=NOW - 2 * HOUR, until=NOW - HOUR), "has ended"),
    ],
)
def test_what_is_not_believed(der: bytes, reason: str) -> None:
    with pytest.raises(RevocationUnavailable, match=reason):
        read_response(der, LEAF.certificate, CA.certificate, NOW)


def test_clocks_may_differ_a_little() -> None:
    der = answer(LEAF, CA, since=NOW + timedelta(minutes=4))
    assert read_response(der, LEAF.certificate, CA.certificate, NOW)


def test_what_a_certificate_says_of_itself() -> None:
    leaf = CA.issue("a.example", extensions=[answered_at("http://ca.example/ocsp")])
    assert responder(leaf.certificate) == "http://ca.example/ocsp"
    assert responder(CA.issue("a.example", extensions=[answered_at("ldap://ca.example")]).certificate) is None
    assert responder(LEAF.certificate) is None
