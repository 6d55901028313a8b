from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.identity.authority import MAX_TTL, SigningKey, create_intermediate, create_root, signature_hash
from isthmus.identity.crl import LIFE, REFRESHED, Signer, are_all_listed, build_list, read_lists
from isthmus.identity.material import pem_of
from isthmus.identity.revoked import Reason, RevokedCertificate

from .making import DOMAIN, HOUR, NOW, leaf, uri

ROOT, ROOT_KEY = create_root(DOMAIN, NOW)


def signer() -> Signer:
    certificate, key = create_intermediate(DOMAIN, ROOT, ROOT_KEY, NOW)
    return Signer(certificate, key, NOW + MAX_TTL)


def revoked(serial: int, reason: Reason = Reason.UNSPECIFIED) -> RevokedCertificate:
    return RevokedCertificate(serial, NOW - HOUR, reason, NOW + HOUR)


def test_what_is_on_it() -> None:
    by = signer()
    made = build_list(by, [revoked(0xFF), revoked(7, Reason.KEY_COMPROMISE)], 12, NOW)
    assert made.is_by(by.certificate)
    assert not made.is_by(signer().certificate)
    assert (made.number, made.serials) == (12, {7, 0xFF})
    assert made.this_update <= NOW
    assert made.next_update == NOW + LIFE
    crl = x509.load_pem_x509_crl(made.pem.encode())
    seven, other = (crl.get_revoked_certificate_by_serial_number(number) for number in (7, 0xFF))
    assert seven is not None
    assert other is not None
    assert seven.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise
    assert len(other.extensions) == 0, "unspecified is said by saying nothing"
    own = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    known = by.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert own == known.digest


def test_a_list_outlives_all_that_was_signed_before_the_next() -> None:
    made = build_list(signer(), [], 1, NOW)
    assert not made.is_due(NOW + REFRESHED - 2 * HOUR)
    assert made.is_due(NOW + REFRESHED)
    assert made.is_due(NOW - 2 * REFRESHED), "it is of the future: somebody set the clock"
    assert made.next_update >= NOW + REFRESHED + MAX_TTL


def test_several_are_read_one_after_the_other_and_noise_is_none() -> None:
    first, second = build_list(signer(), [revoked(1)], 1, NOW), build_list(signer(), [], 2, NOW)
    assert read_lists((first.pem + second.pem).encode()) == (first, second)
    assert read_lists(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n" + second.pem.encode()) == (second,)
    assert read_lists(b"") == ()


def test_each_signer_needs_its_own() -> None:
    one, other = signer(), signer()
    lists = [build_list(one, [], 1, NOW)]
    assert are_all_listed([one], lists)
    assert not are_all_listed([one, other], lists)


def test_who_may_sign_none() -> None:
    certificate = leaf(uri("spiffe://x"), usage={"key_cert_sign": True})
    assert not Signer(certificate, ROOT_KEY, NOW).may_sign_lists
    assert signer().may_sign_lists


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)])
def test_with_a_users_key(key: SigningKey) -> None:
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW - HOUR).not_valid_after(NOW + timedelta(days=365))
    by = Signer(builder.sign(key, signature_hash(key)), key, NOW + HOUR)
    assert build_list(by, [revoked(3)], 1, NOW).is_by(by.certificate)


def test_openssl_believes_it(tmp_path: Path) -> None:
    by = signer()
    made = build_list(by, [revoked(0xABC, Reason.PRIVILEGE_WITHDRAWN)], 5, NOW)
    (tmp_path / "ca.pem").write_bytes(pem_of(by.certificate))
    (tmp_path / "list.der").write_bytes(made.der)
    assert x509.load_der_x509_crl(made.der).public_bytes(Encoding.PEM).decode() == made.pem
    ran = subprocess.run(
        ["openssl", "crl", "-in", "list.der", "-inform", "DER", "-CAfile", "ca.pem", "-noout", "-text"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "verify OK" in ran.stderr, ran.stderr
    assert "Serial Number: 0ABC" in ran.stdout
    assert "Privilege Withdrawn" in ran.stdout
