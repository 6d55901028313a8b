"""Keys, requests and certificates for tests, also those that no authority of ours would make."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.identity.authority import Authority, SigningKey, create_intermediate, create_root, signature_hash
from isthmus.identity.validate import Csr

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DOMAIN = "cluster.local"


def make_authority(now: datetime = NOW, trust_domain: str = DOMAIN) -> Authority:
    root, root_key = create_root(trust_domain, now)
    intermediate, key = create_intermediate(trust_domain, root, root_key, now)
    return Authority(trust_domain, root, (intermediate,), key)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def new_csr() -> Csr:
    return Csr(new_key().public_key())


def request(key: SigningKey, *uris: str) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, signature_hash(key))


def request_pem(key: SigningKey, *uris: str) -> str:
    return request(key, *uris).public_bytes(Encoding.PEM).decode()


def leaf(
    *names: x509.GeneralName,
    ca: bool = False,
    usage: dict[str, bool] | None = None,
    uses: tuple[x509.ObjectIdentifier, ...] = (),
    now: datetime = NOW,
    issuer: tuple[x509.Certificate, SigningKey] | None = None,
    key: SigningKey | None = None,
) -> x509.Certificate:
    """A certificate with whatever it is told to say; signed by itself without an issuer."""
    own = key or new_key()
    bits = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    bits |= {"digital_signature": True} if usage is None else usage
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer[0].subject if issuer else x509.Name([]))
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + HOUR)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**bits), critical=True)
    )
    if uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(uses)), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=True)
    return builder.sign(issuer[1] if issuer else own, hashes.SHA256())


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)
