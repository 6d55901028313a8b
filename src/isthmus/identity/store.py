"""The certificate authority's files, in ``ca/`` of the state directory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from isthmus.errors import Refused, StateUnusable
from isthmus.identity.authority import Authority, SigningKey, create_intermediate, create_root, private_key
from isthmus.identity.spiffe_id import check_trust_domain
from isthmus.identity.validate import encoded_key, find_extension
from isthmus.state import StateDir

ROOT = "ca/root.pem"
"""The mesh root: what a client outside the mesh is told to trust, and what ``isthmus ca root`` prints."""

ROOT_KEY = "ca/root.key"
INTERMEDIATE = "ca/intermediate.pem"
INTERMEDIATE_KEY = "ca/intermediate.key"
_NEXT = "ca/next.pem"
_NEXT_KEY = "ca/next.key"

RENEWED_AT = 1 / 5
"""The part of its life that an intermediate has left when a new one takes over, if the root key is there."""


def load_or_create(
    state: StateDir, trust_domain: str, now: datetime, root_namespace: str = "istio-system"
) -> Authority:
    """The authority of this state: made at the first start, the same root ever after.

    To be called again from time to time (daily, say): it renews the intermediate when a fifth of its life is left. An
    unchanged authority is equal to the one before.

    The root key is used only to make an intermediate: ``ca/root.key`` may be moved away after the first start, and is
    put back for one start in the year. A user's own authority works by putting, before the first start, either
    ``root.pem`` and ``root.key`` there, or ``root.pem``, ``intermediate.pem`` (the signing certificate first, then
    those between it and the root) and ``intermediate.key``; keys are unencrypted PEM: EC, RSA or Ed25519.

    Raises StateUnusable: a file is missing, unreadable, or does not belong to the others; Refused: the state is
    another trust domain's, or a certificate has ended and cannot be renewed here; SpiffeIdInvalid: ``trust_domain``
    is no trust domain's name.
    """
    check_trust_domain(trust_domain)
    _finish_renewal(state)
    if not any(state.read(name) for name in (ROOT, ROOT_KEY, INTERMEDIATE, INTERMEDIATE_KEY)):
        _create(state, trust_domain, now)
    root = _load_root(state, trust_domain, now)
    signer = _load_signer(state, root, trust_domain)
    if root.key is not None and (signer is None or _is_due(signer.chain[0], root.certificate, now)):
        _renew(state, root.certificate, root.key, trust_domain, now)
        signer = _load_signer(state, root, trust_domain)
    if signer is None:
        raise StateUnusable(
            f"{state.within(INTERMEDIATE)}: missing, and {state.within(ROOT_KEY)} is not there to make a new one"
        )
    for certificate in signer.chain:
        if certificate.not_valid_after_utc <= now:
            raise Refused(
                f"{state.within(INTERMEDIATE)}: ended on {certificate.not_valid_after_utc:%Y-%m-%d}: put the root key "
                f"back as {state.within(ROOT_KEY)} for one start"
            )
    return Authority(trust_domain, root.certificate, signer.chain, signer.key, root_namespace)


def put_back(state: StateDir, authority: Authority) -> bool:
    """Write a running authority's files again, if somebody removed them all; say whether so.

    The root key is not held in memory, so it is not among them: keep a copy of it elsewhere. Raises StateUnusable.
    """
    if any(state.read(name) is not None for name in (ROOT, ROOT_KEY, INTERMEDIATE, INTERMEDIATE_KEY)):
        return False
    chain = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in authority.chain)
    # The root last: until it is there the folder says of itself that something is missing.
    state.write_private(INTERMEDIATE_KEY, private_key(authority.signing_key).pem)
    state.write_private(INTERMEDIATE, chain)
    state.write_private(ROOT, authority.root.public_bytes(Encoding.PEM))
    return True


@dataclass(frozen=True, slots=True)
class _Root:
    certificate: x509.Certificate
    key: SigningKey | None


@dataclass(frozen=True, slots=True)
class _Signer:
    chain: tuple[x509.Certificate, ...]
    key: SigningKey


def _create(state: StateDir, trust_domain: str, now: datetime) -> None:
    root, root_key = create_root(trust_domain, now)
    intermediate, key = create_intermediate(trust_domain, root, root_key, now)
    # One step: a crash leaves all four files or none.
    state.write_folder(
        "ca",
        {
            "root.pem": root.public_bytes(Encoding.PEM),
            "root.key": private_key(root_key).pem,
            "intermediate.pem": intermediate.public_bytes(Encoding.PEM),
            "intermediate.key": private_key(key).pem,
        },
    )


def _renew(state: StateDir, root: x509.Certificate, root_key: SigningKey, trust_domain: str, now: datetime) -> None:
    intermediate, key = create_intermediate(trust_domain, root, root_key, now)
    state.write_private(_NEXT_KEY, private_key(key).pem)
    state.write_private(_NEXT, intermediate.public_bytes(Encoding.PEM))
    _finish_renewal(state)


def _finish_renewal(state: StateDir) -> None:
    """Put the next intermediate and its key in place: also where a crash left off between the two."""
    if state.read(_NEXT) is None:
        # Nothing is written where nothing is to do: a start must not fail on a disk that may only be read.
        if state.read(_NEXT_KEY) is not None:
            state.remove(_NEXT_KEY)
        return
    if state.read(_NEXT_KEY) is not None:
        state.move(_NEXT_KEY, INTERMEDIATE_KEY)
    state.move(_NEXT, INTERMEDIATE)


def _load_root(state: StateDir, trust_domain: str, now: datetime) -> _Root:
    certificates = _certificates(state, ROOT)
    if certificates is None:
        raise StateUnusable(f"{state.within(ROOT)}: missing, while other files of the certificate authority are there")
    if len(certificates) != 1:
        raise StateUnusable(f"{state.within(ROOT)}: one certificate is wanted, not {len(certificates)}")
    certificate, key = certificates[0], _key(state, ROOT_KEY)
    _check_authority(state, ROOT, certificate, trust_domain)
    if key is not None and encoded_key(key.public_key()) != encoded_key(certificate.public_key()):
        raise StateUnusable(f"{state.within(ROOT_KEY)}: not the key of {state.within(ROOT)}")
    if certificate.not_valid_after_utc <= now:
        raise Refused(f"{state.within(ROOT)}: the root ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
    return _Root(certificate, key)


def _load_signer(state: StateDir, root: _Root, trust_domain: str) -> _Signer | None:
    chain, key = _certificates(state, INTERMEDIATE), _key(state, INTERMEDIATE_KEY)
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        missing, there = (INTERMEDIATE, INTERMEDIATE_KEY) if chain is None else (INTERMEDIATE_KEY, INTERMEDIATE)
        raise StateUnusable(f"{state.within(missing)}: missing, while {state.within(there)} is there")
    for certificate in chain:
        _check_authority(state, INTERMEDIATE, certificate, trust_domain)
    if encoded_key(key.public_key()) != encoded_key(chain[0].public_key()):
        raise StateUnusable(f"{state.within(INTERMEDIATE_KEY)}: not the key of {state.within(INTERMEDIATE)}")
    for below, (certificate, issuer) in enumerate(zip(chain, (*chain[1:], root.certificate), strict=True), start=1):
        longest = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if longest is not None and longest < below:
            raise StateUnusable(f"{state.within(INTERMEDIATE)}: its issuer allows {longest} authorities below it")
        try:
            certificate.verify_directly_issued_by(issuer)
        except (InvalidSignature, ValueError, TypeError) as error:
            raise StateUnusable(f"{state.within(INTERMEDIATE)}: does not lead to {state.within(ROOT)}") from error
    return _Signer(chain, key)


def _is_due(certificate: x509.Certificate, root: x509.Certificate, now: datetime) -> bool:
    ends = certificate.not_valid_after_utc
    life = ends - certificate.not_valid_before_utc
    # Near the root's own end a new one would not live longer.
    return ends - now < life * RENEWED_AT and ends < root.not_valid_after_utc


def _certificates(state: StateDir, name: str) -> tuple[x509.Certificate, ...] | None:
    data = state.read(name)
    if data is None:
        return None
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StateUnusable(f"{state.within(name)}: not a certificate in PEM") from error


def _key(state: StateDir, name: str) -> SigningKey | None:
    data = state.read(name)
    if data is None:
        return None
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        raise StateUnusable(f"{state.within(name)}: the key is encrypted; it is wanted in the clear") from None
    except (ValueError, UnsupportedAlgorithm):
        # Without its cause: a parser's message may quote what it read.
        raise StateUnusable(f"{state.within(name)}: not a private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise StateUnusable(f"{state.within(name)}: keys are EC, RSA or Ed25519, not {type(key).__name__}")
    return key


def _check_authority(state: StateDir, name: str, certificate: x509.Certificate, trust_domain: str) -> None:
    try:
        constraints = find_extension(certificate, x509.BasicConstraints)
        usage = find_extension(certificate, x509.KeyUsage)
        names = find_extension(certificate, x509.SubjectAlternativeName)
    except (ValueError, x509.DuplicateExtension):
        raise StateUnusable(f"{state.within(name)}: not a readable certificate") from None
    if constraints is None or not constraints.ca or (usage is not None and not usage.key_cert_sign):
        raise StateUnusable(f"{state.within(name)}: not an authority's certificate")
    if names is None:
        # A user's own authority need not say whose it is.
        return
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith("spiffe://") and uri != f"spiffe://{trust_domain}":
            raise Refused(
                f"{state.within(name)}: belongs to the trust domain {uri.removeprefix('spiffe://')}, not "
                f"{trust_domain}: take another state directory, or set the trust domain back"
            )
