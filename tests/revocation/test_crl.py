from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.errors import RevocationUnavailable
from isthmus.revocation.crl import crl_pem, distribution_points, nobodys_crl, read_crl
from tests.real.pki import Authority

from .making import HOUR, NOW, altered, crl, point, published_at

CA = Authority("clients")
OTHER = Authority("others")
NAMESAKE = Authority("clients")
"""The same name, another key."""


def test_der_and_pem_are_read() -> None:
    der = crl(CA, 7, 8, number=3)
    held = read_crl(der, [OTHER.certificate, CA.certificate], NOW)
    assert (held.number, held.revoked, held.next_update) == (3, frozenset({7, 8}), NOW + HOUR)
    assert read_crl(crl_pem(der), [CA.certificate], NOW) == held
    assert held.issuer == CA.subject.public_bytes()


def test_of_two_authorities_of_one_name_the_signer_is_found() -> None:
    assert read_crl(crl(CA, 7), [NAMESAKE.certificate, CA.certificate], NOW).revoked == {7}


def test_one_that_has_ended_is_still_read() -> None:
    held = read_crl(crl(CA, since=NOW - 3 * HOUR, until=NOW - HOUR), [CA.certificate], NOW)
    assert held.ended(NOW)


def of_a_ca_that_signs_no_lists() -> x509.Certificate:
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    builder = x509.CertificateBuilder().subject_name(CA.subject).issuer_name(CA.subject).serial_number(1)
    builder = builder.public_key(CA.private.public_key()).not_valid_before(NOW).not_valid_after(NOW + HOUR)
    return builder.add_extension(usage, critical=True).sign(CA.private, hashes.SHA256())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a CRL"),
        (b"-----BEGIN X509 CRL-----\nnonsense\n-----END X509 CRL-----\n", "not a CRL"),
        (CA.certificate.public_bytes(Encoding.DER), "not a CRL"),
        (crl(OTHER), "none of the client CAs"),
        (crl(CA, signer=OTHER), "not signed"),
        (crl(NAMESAKE), "not signed"),
        (altered(crl(CA)), "not signed"),
        (crl(CA, since=NOW + HOUR, until=NOW + 2 * HOUR), "of the future"),
        (crl(CA, extensions=[(x509.DeltaCRLIndicator(1), True)]), "delta"),
        (crl(CA, extensions=[(point(indirect_crl=True), True)]), "not of all"),
        (crl(CA, extensions=[(point(only_contains_ca_certs=True), True)]), "not of all"),
        (crl(CA, extensions=[(point(only_some_reasons=frozenset({x509.ReasonFlags.superseded})), True)]), "not of all"),
        (crl(CA, extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True)]), "critical"),
    ],
)
def test_what_is_not_believed(data: bytes, reason: str) -> None:
    with pytest.raises(RevocationUnavailable, match=reason):
        read_crl(data, [CA.certificate], NOW)


def test_whatever_comes_in_place_of_a_list_is_refused_and_ends_nothing() -> None:
    """A list comes over plain http: who stands in between must not end the process that reads it."""
    der, chance = crl(CA, 7, 8, number=3, extensions=[(point(only_contains_user_certs=True), True)]), Random(7)
    believed = 0
    for _ in range(3000):
        data = bytearray(der)
        data[chance.randrange(len(data))] = chance.randrange(256)
        with suppress(RevocationUnavailable):
            believed += read_crl(bytes(data), [CA.certificate], NOW).der != der
    assert believed == 0


def test_a_ca_that_may_not_sign_lists_does_not() -> None:
    with pytest.raises(RevocationUnavailable, match="not signed"):
        read_crl(crl(CA), [of_a_ca_that_signs_no_lists()], NOW)


def test_clocks_may_differ_a_little() -> None:
    assert read_crl(crl(CA, since=NOW + timedelta(minutes=4)), [CA.certificate], NOW)


def test_parts_of_one_issuer_are_told_apart() -> None:
    names = [x509.UniformResourceIdentifier("http://ca.example/1.crl")]
    part = read_crl(crl(CA, extensions=[(point(full_name=names), True)]), [CA.certificate], NOW)
    assert part.scope != read_crl(crl(CA), [CA.certificate], NOW).scope == b""


def test_the_list_of_nobody_is_of_no_client_ca() -> None:
    with pytest.raises(RevocationUnavailable, match="none of the client CAs"):
        read_crl(nobodys_crl(), [CA.certificate], NOW)


def test_distribution_points_of_a_certificate() -> None:
    leaf = CA.issue("a.example", extensions=[published_at("http://ca.example/1.crl", "ldap://ca.example/x")])
    assert distribution_points(leaf.certificate) == ("http://ca.example/1.crl",)
    assert distribution_points(CA.certificate) == ()
