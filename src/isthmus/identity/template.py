"""What each sort of certificate says. Nothing here signs."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.identity.spiffe_id import SpiffeId

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

ROOT_LIFE = timedelta(days=3650)
"""The root is what other systems trust by hand; ten years, and its key can be taken offline after the first start."""

INTERMEDIATE_LIFE = timedelta(days=365)
"""The key that signs every day lives a year."""

BACKDATED = timedelta(minutes=1)
"""How far a verifier's clock may be behind ours. A certificate never starts before its issuer does."""


def svid_template(
    spiffe_id: SpiffeId,
    public_key: PublicKey,
    issuer: x509.Certificate,
    now: datetime,
    ttl: timedelta,
    dns_names: tuple[str, ...] = (),
) -> x509.CertificateBuilder:
    """An X.509-SVID: one URI name, for both ends of a connection.

    ``dns_names`` beside the SPIFFE ID are for clients that must match a host name; the standard allows them.
    ``ttl`` counts from ``now`` and is cut where the issuer ends. Source: SPIFFE X509-SVID.md, sections 2 to 4;
    RFC 5280 4.2.1.6 (an empty subject makes the names critical).
    """
    names = [x509.UniformResourceIdentifier(spiffe_id.uri), *map(x509.DNSName, dns_names)]
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _leaf(names, uses, public_key, issuer, now, ttl)


def server_template(
    dns_names: tuple[str, ...], public_key: PublicKey, issuer: x509.Certificate, now: datetime, ttl: timedelta
) -> x509.CertificateBuilder:
    """A web server's certificate for development: DNS names only, and of no use to a client of the mesh."""
    return _leaf([*map(x509.DNSName, dns_names)], [ExtendedKeyUsageOID.SERVER_AUTH], public_key, issuer, now, ttl)


def root_template(trust_domain: str, public_key: PublicKey, now: datetime) -> x509.CertificateBuilder:
    """The root of a trust domain, its own issuer."""
    subject = _ca_name("Isthmus root", public_key)
    return (
        _authority(trust_domain, subject, public_key, path_length=None)
        .issuer_name(subject)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + ROOT_LIFE)
    )


def intermediate_template(
    trust_domain: str, public_key: PublicKey, root: x509.Certificate, now: datetime
) -> x509.CertificateBuilder:
    """The authority that signs SVIDs: no further authority below it; its URI name is the trust domain's, without path.

    Source: SPIFFE X509-SVID.md, section 3.2 (signing certificates).
    """
    return (
        _authority(trust_domain, _ca_name("Isthmus signing", public_key), public_key, path_length=0)
        .issuer_name(root.subject)
        .not_valid_before(max(now - BACKDATED, root.not_valid_before_utc))
        .not_valid_after(min(now + INTERMEDIATE_LIFE, root.not_valid_after_utc))
        .add_extension(_key_of(root), critical=False)
    )


def _leaf(
    names: list[x509.GeneralName],
    uses: list[x509.ObjectIdentifier],
    public_key: PublicKey,
    issuer: x509.Certificate,
    now: datetime,
    ttl: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - BACKDATED, issuer.not_valid_before_utc))
        .not_valid_after(min(now + ttl, issuer.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_key_of(issuer), critical=False)
    )


def _authority(
    trust_domain: str, subject: x509.Name, public_key: PublicKey, *, path_length: int | None
) -> x509.CertificateBuilder:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(SpiffeId(trust_domain).uri)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _ca_name(common_name: str, public_key: PublicKey) -> x509.Name:
    # The key's hash tells two authorities of one name apart for verifiers that look issuers up by name.
    key = x509.SubjectKeyIdentifier.from_public_key(public_key).digest.hex()
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Isthmus"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, key),
        ]
    )


def _key_of(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        identifier = x509.SubjectKeyIdentifier.from_public_key(issuer.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
