"""Keys, certificate requests and the secrets made of them: no IO, no clock."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import core_v3, tls_v3
from isthmus.errors import SvidInvalid
from isthmus.proxy.plan import TrustBundle, own_roots, trust_version
from isthmus.proxy.sds_stream import ServedSecret

_JITTER = 0.05


@dataclass(frozen=True, slots=True)
class Request:
    """A key that was just made, and the request to certify it."""

    key_pem: bytes = field(repr=False)
    csr_pem: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key. ``chain``: leaf, then intermediates, PEM; ``roots``: what it is to be trusted by."""

    key_pem: bytes = field(repr=False)
    chain: bytes
    roots: bytes
    not_before: datetime
    not_after: datetime


def request_for_identity(uri: str) -> Request:
    """A P-256 key and its request. The authority takes the SAN from who asks; the one in here is for its log."""
    return _request(x509.UniformResourceIdentifier(uri))


def request_for_hosts(dns_names: tuple[str, ...]) -> Request:
    """The same for a development certificate of a gateway."""
    return _request(*(x509.DNSName(name) for name in dns_names))


def _request(*names: x509.GeneralName) -> Request:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    return Request(
        key_pem=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        csr_pem=builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode(),
    )


def certificate(key_pem: bytes, cert_chain: list[str]) -> Certificate:
    """Join a key with the authority's answer: leaf first, the root (or roots, in one element) last.

    Raises SvidInvalid if the answer has no root, cannot be read, or is not for this key.
    """
    if len(cert_chain) < 2:
        raise SvidInvalid("the authority's answer has no root")
    *chain, roots = (pem.strip().encode() + b"\n" for pem in cert_chain)
    try:
        leaf = x509.load_pem_x509_certificate(chain[0])
        x509.load_pem_x509_certificates(roots)
        fits = leaf.public_key() == serialization.load_pem_private_key(key_pem, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as broken:
        raise SvidInvalid(f"the authority's answer cannot be read: {broken}") from broken
    if not fits:
        raise SvidInvalid("the authority's certificate is for another key")
    return Certificate(key_pem, b"".join(chain), roots, leaf.not_valid_before_utc, leaf.not_valid_after_utc)


def renewal(now: datetime, not_after: datetime, chance: random.Random) -> datetime:
    """When to renew a certificate that came at ``now``: at half of what is left, give or take 5 %.

    The jitter spreads those that were issued together.
    """
    half = (not_after - now) / 2
    return now + half * chance.uniform(1 - _JITTER, 1 + _JITTER)


def time_left(held: Certificate, came: datetime, due: datetime, now: datetime, passed: timedelta) -> timedelta:
    """How long ``held`` may stay; nothing or less: renew it now.

    ``came`` and ``due``: when it came and was to be renewed, by the clock of then. ``now``: by the clock of now, which
    may have been set meanwhile. ``passed``: what really went by, as far as the machine was awake. Whichever of the two
    says so first counts, and a clock that was set back to before the certificate's own beginning makes it worthless.
    """
    if now < held.not_before:
        return timedelta()
    return min(due - now, (due - came) - passed)


def is_superseded(held: Certificate, trust: tuple[TrustBundle, ...]) -> bool:
    """Whether it is to be replaced now: another root signs than the one that it leads to, or it was revoked itself.

    Both name the root that signs first.
    """
    if not trust:
        return False
    return not held.roots.strip().startswith(trust[0].roots[0].strip().encode()) or _is_listed(held, trust[0].lists)


def _is_listed(held: Certificate, lists: Iterable[str]) -> bool:
    serial = x509.load_pem_x509_certificate(held.chain).serial_number
    read = (x509.load_pem_x509_crl(one.encode()) for one in lists)
    return any(one.get_revoked_certificate_by_serial_number(serial) is not None for one in read)


def certificate_secret(name: str, held: Certificate) -> ServedSecret:
    """A Secret with chain and key. Its version is of the chain alone: no digest of a key goes to a log."""
    secret = tls_v3.Secret(
        name=name,
        tls_certificate=tls_v3.TlsCertificate(
            certificate_chain=core_v3.DataSource(inline_bytes=held.chain),
            private_key=core_v3.DataSource(inline_bytes=held.key_pem),
        ),
    )
    return ServedSecret(name, _version(held.chain), any_of(secret))


def trust_secret(name: str, trust: tuple[TrustBundle, ...]) -> ServedSecret:
    """A Secret with the certificates that peers must descend from: those of the first bundle, the own trust domain's.

    With its lists of revoked certificates, if there are any. Its version is :func:`trust_version`.
    """
    roots, lists = own_roots(trust), trust[0].lists
    context = tls_v3.CertificateValidationContext(trusted_ca=core_v3.DataSource(inline_bytes=roots))
    if lists:
        context.crl.inline_bytes = "".join(lists).encode()
        # Signers have their lists; of roots nobody revokes one: those are trusted no more instead.
        context.only_verify_leaf_cert_crl = True
    return ServedSecret(name, trust_version(trust), any_of(tls_v3.Secret(name=name, validation_context=context)))


def _version(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def lasting(held: Certificate, now: datetime, least: timedelta) -> bool:
    """Whether it is still good for ``least``."""
    return held.not_after - now > least
