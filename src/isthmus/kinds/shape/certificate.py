"""Certificates, keys and lists of revoked ones, as PEM: whether they can be used, and what is odd about them.

Every answer is words or a public value; no message has anything of a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

_SIGNING = (ec.EllipticCurvePublicKey, rsa.RSAPublicKey, ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


def read_certificates(pem: bytes) -> list[x509.Certificate] | None:
    """One at least; None if it is no such PEM."""
    try:
        found = x509.load_pem_x509_certificates(pem)
        for one in found:
            # Parsed when they are looked at: what is wrong in them is to be found here, and not by whoever looks first.
            _ = one.subject, one.issuer, one.public_key()
    except _UNREADABLE:
        return None
    return found


def read_lists(pem: bytes) -> list[x509.CertificateRevocationList] | None:
    """One at least; None if it is no such PEM."""
    try:
        found = [x509.load_pem_x509_crl(block) for block in _CRL.findall(pem)]
        _ = [one.issuer for one in found]
    except _UNREADABLE:
        return None
    return found or None


def pair_problem(certificate: bytes | None, key: bytes | None, certificate_name: str, key_name: str) -> str | None:
    """Why the two are not a chain, leaf first, and the leaf's key; None if they are."""
    if certificate is None or key is None:
        return f"it needs both {certificate_name} and {key_name}"
    chain = read_certificates(certificate)
    if chain is None:
        return f"{certificate_name} is not a PEM certificate"
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return f"{key_name} is not a PEM private key without a password"
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    fitting = [position for position, one in enumerate(chain, 1) if _public(one) == public]
    if not fitting:
        return f"{key_name} is not the key of {certificate_name}"
    if fitting[0] != 1:
        wrong = f"{certificate_name} is in the wrong order"
        return f"{wrong}: {key_name} is the key of its certificate {fitting[0]}, which must be the first"
    return None


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def chain_oddities(chain: Sequence[x509.Certificate]) -> Iterator[str]:
    """What clients may refuse in a server's chain that Envoy shows as it is."""
    leaf = chain[0]
    if is_ca(leaf):
        yield f"{name_of(leaf)} is a CA's certificate (CA:TRUE), which some clients take from no server"
    if is_nameless(leaf):
        yield "it has neither a SAN nor a CN: clients cannot tell whose it is"
    for position, (one, signer) in enumerate(pairwise(chain), 1):
        if one.issuer != signer.subject:
            yield f"certificate {position + 1} ({name_of(signer)}) did not sign certificate {position} ({name_of(one)})"
            return


def authority_oddities(authorities: Sequence[x509.Certificate]) -> Iterator[str]:
    """What is odd about a bundle of CAs that clients' certificates are to come from."""
    if not any(is_ca(one) for one in authorities):
        yield "there is no CA certificate in it: only clients with these very certificates are let in"
    keys: dict[bytes, bytes] = {}
    for one in authorities:
        subject = one.subject.public_bytes()
        if is_ca(one) and keys.setdefault(subject, _public(one)) != _public(one):
            yield (
                f"two CAs are both called {name_of(one)}, with different keys: logs and lists cannot tell them apart"
            )
            return


def list_oddity(lists: Sequence[x509.CertificateRevocationList], authorities: Sequence[x509.Certificate]) -> str | None:
    """What is odd about lists beside CAs: clients of a CA without a list are refused."""
    without = [one for one in authorities if is_ca(one) and not any(_signed(one, each) for each in lists)]
    if not without:
        return None
    return f"no list in it is of {name_of(without[0])}: every client of that CA is refused"


def _signed(authority: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    public = authority.public_key()
    if authority.subject != crl.issuer or not isinstance(public, _SIGNING):
        return False
    try:
        return crl.is_signature_valid(public)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        return False


def is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False


def name_of(certificate: x509.Certificate) -> str:
    """As people know it: its common name, or all of its subject, or its serial number."""
    return common_name(certificate.subject) or f"serial {certificate.serial_number:x}"


def common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def is_nameless(certificate: x509.Certificate) -> bool:
    """Whether neither its SANs nor its subject's common name say whose it is."""
    if certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
        return False
    try:
        return not list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return True
    except (x509.DuplicateExtension, ValueError):
        return False


def must_staple(leaf: Sequence[x509.Certificate]) -> bool:
    """Whether a certificate says that it is worth nothing without an OCSP answer (RFC 7633, ``status_request``)."""
    try:
        features = (one.extensions.get_extension_for_class(x509.TLSFeature).value for one in leaf)
        return any(x509.TLSFeatureType.status_request in found for found in features)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
