"""The certificate authority: requests in, certificates out. It holds no files and no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from isthmus.errors import CsrRejected, Refused, SpiffeIdInvalid
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.template import intermediate_template, root_template, server_template, svid_template
from isthmus.identity.validate import Csr, check_server, check_svid
from isthmus.model.identity import CONTROL_PLANE_SERVICE_ACCOUNT

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

MIN_TTL = timedelta(seconds=10)
DEFAULT_TTL = timedelta(hours=1)
MAX_TTL = timedelta(days=90)

MAX_DNS_NAMES = 100
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS_NAME = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*{_LABEL}")


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKey:
    """An unencrypted private key, PKCS#8 in PEM. Its repr does not show it."""

    pem: bytes

    def __repr__(self) -> str:
        return "[redacted]"


@dataclass(frozen=True, slots=True)
class Svid:
    """An X.509-SVID. ``chain``: PEM, leaf first, then the authorities below the root, without the root."""

    spiffe_id: SpiffeId
    chain: tuple[str, ...]
    expires: datetime


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A web server's certificate for development; ``chain`` as an Svid's."""

    dns_names: tuple[str, ...]
    chain: tuple[str, ...]
    expires: datetime


@dataclass(frozen=True, slots=True)
class KeyedSvid:
    """An SVID whose key we made ourselves."""

    svid: Svid
    key: PrivateKey


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is trusted to speak for one trust domain: root certificates, PEM. Bundles are never merged."""

    trust_domain: str
    roots: tuple[str, ...]

    @property
    def expires(self) -> datetime:
        """When the first of the roots ends."""
        return min(x509.load_pem_x509_certificate(root.encode()).not_valid_after_utc for root in self.roots)


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs for one trust domain. ``chain``: the signing certificate first, each issued by the next, the last by
    ``root``. Two authorities are equal if their certificates are; :func:`isthmus.identity.store.load_or_create`
    makes one that is whole.
    """

    trust_domain: str
    root: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    signing_key: SigningKey = field(repr=False, compare=False)
    root_namespace: str = "istio-system"
    others: tuple[x509.Certificate, ...] = ()
    """Roots that are trusted though nothing is signed below them: the next one, old ones."""

    @property
    def expires(self) -> datetime:
        """When the first of its certificates ends: nothing it signs lives longer."""
        return min(certificate.not_valid_after_utc for certificate in (self.root, *self.chain))

    @property
    def bundle(self) -> Bundle:
        """The root that what is signed now leads to first, then the others."""
        return Bundle(self.trust_domain, tuple(_pem(root) for root in dict.fromkeys((self.root, *self.others))))

    @property
    def control_plane_id(self) -> SpiffeId:
        """``spiffe://<trust domain>/ns/<root namespace>/sa/isthmus``."""
        return SpiffeId.workload(self.trust_domain, self.root_namespace, CONTROL_PLANE_SERVICE_ACCOUNT)

    def issue(self, csr: Csr, spiffe_id: SpiffeId, ttl: timedelta, now: datetime) -> Svid:
        """Sign the key of ``csr`` as an X.509-SVID of ``spiffe_id``, which the caller has the right to.

        ``ttl`` is a wish: brought between 10 s and 90 d, and cut where an authority of the chain ends.
        Raises SpiffeIdInvalid: of another trust domain, or without a path; Refused: the authority has ended.
        Source: SPIFFE X509-SVID.md, sections 2 to 4.
        """
        return self._issue(csr, spiffe_id, ttl, now, dns_names=())

    def issue_server(self, csr: Csr, dns_names: tuple[str, ...], ttl: timedelta, now: datetime) -> ServerCertificate:
        """Sign the key of ``csr`` for a web server of ``dns_names`` (``*.example.com`` among them; 1 to 100).

        ``ttl`` as in :meth:`issue`. Raises CsrRejected: no DNS name, or one that is the control plane's; Refused: the
        authority has ended.
        """
        names = tuple(dict.fromkeys(name.lower() for name in dns_names))
        self._check_dns_names(names)
        lifetime = self._lifetime(ttl, now)
        made = self._sign(server_template(names, csr.public_key, self.chain[0], now, lifetime))
        check_server(made, names, csr, self.chain[0], now)
        return ServerCertificate(names, self._with_chain(made), made.not_valid_after_utc)

    def issue_control_plane(self, now: datetime, ttl: timedelta = DEFAULT_TTL) -> KeyedSvid:
        """The control plane's own SVID, with a new key.

        It has a DNS name too (:func:`control_plane_dns_name`): gRPC clients in Python can match no other name.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        name = control_plane_dns_name(self.control_plane_id)
        svid = self._issue(Csr(key.public_key()), self.control_plane_id, ttl, now, dns_names=(name,))
        return KeyedSvid(svid, private_key(key))

    def _issue(
        self, csr: Csr, spiffe_id: SpiffeId, ttl: timedelta, now: datetime, *, dns_names: tuple[str, ...]
    ) -> Svid:
        if spiffe_id.trust_domain != self.trust_domain or not spiffe_id.path:
            raise SpiffeIdInvalid(f"{spiffe_id} is not an identity of the trust domain {self.trust_domain}")
        lifetime = self._lifetime(ttl, now)
        made = self._sign(svid_template(spiffe_id, csr.public_key, self.chain[0], now, lifetime, dns_names))
        check_svid(made, spiffe_id, csr, self.chain[0], now, dns_names)
        return Svid(spiffe_id, self._with_chain(made), made.not_valid_after_utc)

    def _lifetime(self, ttl: timedelta, now: datetime) -> timedelta:
        if not max(cert.not_valid_before_utc for cert in (self.root, *self.chain)) <= now:
            raise Refused("the certificate authority is not valid yet: this machine's clock is behind")
        # Certificates count in whole seconds: under one is none.
        if self.expires - now < timedelta(seconds=1):
            raise Refused(f"the certificate authority ended on {self.expires:%Y-%m-%d %H:%M:%S}Z")
        return min(max(ttl, MIN_TTL), MAX_TTL, self.expires - now)

    def _sign(self, template: x509.CertificateBuilder) -> x509.Certificate:
        return template.sign(self.signing_key, signature_hash(self.signing_key))

    def _with_chain(self, leaf: x509.Certificate) -> tuple[str, ...]:
        # A root that signs by itself (Istio's own, self-signed) is no part of what is shown.
        return tuple(_pem(certificate) for certificate in (leaf, *self.chain) if certificate != self.root)

    def _check_dns_names(self, names: tuple[str, ...]) -> None:
        if not 0 < len(names) <= MAX_DNS_NAMES:
            raise CsrRejected(f"a server certificate has 1 to {MAX_DNS_NAMES} names, not {len(names)}")
        ours = control_plane_dns_name(self.control_plane_id)
        for name in names:
            if len(name) > 253 or not _DNS_NAME.fullmatch(name):
                raise CsrRejected(f"not a DNS name: {name[:300]!r}")
            if name in {ours, "*." + ours.partition(".")[2]}:
                raise CsrRejected(f"{name} is the control plane's")


def control_plane_dns_name(spiffe_id: SpiffeId) -> str:
    """The DNS name in the control plane's SVID: ``isthmus.istio-system.svc`` for ``…/ns/istio-system/sa/isthmus``.

    For gRPC clients, as ``grpc.ssl_target_name_override``; no other certificate of the trust domain has it.
    """
    match spiffe_id.path.split("/"):
        case ["", "ns", namespace, "sa", service_account]:
            return f"{service_account}.{namespace}.svc".lower()
    raise SpiffeIdInvalid(f"{spiffe_id} is not a workload's identity")


def create_root(trust_domain: str, now: datetime) -> tuple[x509.Certificate, SigningKey]:
    """A root for ``trust_domain`` (P-256, ten years) and its key. Raises SpiffeIdInvalid: not a trust domain's name."""
    key = ec.generate_private_key(ec.SECP256R1())
    return root_template(trust_domain, key.public_key(), now).sign(key, signature_hash(key)), key


def create_intermediate(
    trust_domain: str, root: x509.Certificate, root_key: SigningKey, now: datetime
) -> tuple[x509.Certificate, SigningKey]:
    """A signing authority below ``root`` (P-256, a year at most) and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    template = intermediate_template(trust_domain, key.public_key(), root, now)
    return template.sign(root_key, signature_hash(root_key)), key


def private_key(key: SigningKey) -> PrivateKey:
    return PrivateKey(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def signature_hash(key: SigningKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """What a key signs: RFC 5758 pairs P-384 with SHA-384; Ed25519 hashes by itself (RFC 8410)."""
    match key:
        case ed25519.Ed25519PrivateKey():
            return None
        case ec.EllipticCurvePrivateKey(key_size=bits) if bits > 256:
            return hashes.SHA384()
    return hashes.SHA256()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")
