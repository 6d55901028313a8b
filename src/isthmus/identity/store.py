"""The certificate authority's files, in ``ca/`` of the state directory."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from isthmus.errors import Refused, StateUnusable
from isthmus.identity import rotation
from isthmus.identity.authority import Authority, SigningKey, create_intermediate, create_root, private_key
from isthmus.identity.material import check_authority, check_chain, is_key_of, pem_of, read_certificates, read_key
from isthmus.identity.rotation import BUNDLE, INTERMEDIATE, INTERMEDIATE_KEY, ROOT, ROOT_KEY
from isthmus.identity.spiffe_id import check_trust_domain
from isthmus.state import StateDir

RENEWED_AT = 1 / 5
"""The part of its life that an intermediate has left when a new one takes over, if the root key is there."""


def load_or_create(
    state: StateDir, trust_domain: str, now: datetime, root_namespace: str = "istio-system"
) -> Authority:
    """The authority of this state: made at the first start, the same root until it is rotated.

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
    rotation.finish_renewal(state)
    rotation.finish_activation(state)
    if not any(state.read(name) for name in (ROOT, ROOT_KEY, INTERMEDIATE, INTERMEDIATE_KEY)):
        _create(state, trust_domain, now)
    root = _load_root(state, trust_domain, now)
    signer = _load_signer(state, root, trust_domain)
    if root.key is not None and (signer is None or _is_due(signer.chain[0], root.certificate, now)):
        rotation.renew(state, root.certificate, root.key_pem, trust_domain, now)
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
    others = trusted_beside(state, root.certificate, now)
    authority = Authority(trust_domain, root.certificate, signer.chain, signer.key, root_namespace, others)
    # For people alone: a start must not fail on a disk that may only be read.
    with suppress(StateUnusable):
        write_bundle(state, authority)
    return authority


def trusted_beside(state: StateDir, root: x509.Certificate, now: datetime) -> tuple[x509.Certificate, ...]:
    """The roots that are trusted though another signs: the next one, and old ones of which something may live."""
    following = rotation.next_root(state)
    old = (one.certificate for one in rotation.old_roots(state))
    known = (*((following,) if following is not None else ()), *old)
    return tuple(one for one in dict.fromkeys(known) if one != root and one.not_valid_after_utc > now)


def write_bundle(state: StateDir, authority: Authority) -> None:
    """Keep :data:`BUNDLE` up to date. Nothing is written where nothing is new."""
    content = "".join(authority.bundle.roots).encode()
    if state.read(BUNDLE) != content:
        state.write_private(BUNDLE, content)


def renew_intermediate(state: StateDir, authority: Authority, now: datetime) -> None:
    """A new signing certificate now. Raises Refused: the root's key is not there."""
    key = state.read(ROOT_KEY)
    if key is None:
        raise Refused(f"{state.within(ROOT_KEY)}: missing: put the root key back to make a new intermediate")
    rotation.renew(state, authority.root, key, authority.trust_domain, now)


def put_back(state: StateDir, authority: Authority) -> bool:
    """Write a running authority's files again, if somebody removed them all; say whether so.

    The root key is not held in memory, so it is not among them: keep a copy of it elsewhere. Raises StateUnusable.
    """
    if any(state.read(name) is not None for name in (ROOT, ROOT_KEY, INTERMEDIATE, INTERMEDIATE_KEY)):
        return False
    for old in authority.others:
        rotation.add_old(state, old, old.not_valid_after_utc)
    # The root last: until it is there the folder says of itself that something is missing.
    state.write_private(INTERMEDIATE_KEY, private_key(authority.signing_key).pem)
    state.write_private(INTERMEDIATE, pem_of(*authority.chain))
    state.write_private(ROOT, pem_of(authority.root))
    write_bundle(state, authority)
    return True


@dataclass(frozen=True, slots=True)
class _Root:
    certificate: x509.Certificate
    key: SigningKey | None
    key_pem: bytes


@dataclass(frozen=True, slots=True)
class _Signer:
    chain: tuple[x509.Certificate, ...]
    key: SigningKey


def _create(state: StateDir, trust_domain: str, now: datetime) -> None:
    root, root_key = create_root(trust_domain, now)
    intermediate, key = create_intermediate(trust_domain, root, root_key, now)
    # One step: a crash leaves all the files or none.
    state.write_folder(
        "ca",
        {
            "root.pem": pem_of(root),
            "root.key": private_key(root_key).pem,
            "intermediate.pem": pem_of(intermediate),
            "intermediate.key": private_key(key).pem,
            "bundle.pem": pem_of(root),
        },
    )


def _load_root(state: StateDir, trust_domain: str, now: datetime) -> _Root:
    certificates = _certificates(state, ROOT)
    if certificates is None:
        raise StateUnusable(f"{state.within(ROOT)}: missing, while other files of the certificate authority are there")
    if len(certificates) != 1:
        raise StateUnusable(f"{state.within(ROOT)}: one certificate is wanted, not {len(certificates)}")
    certificate, key = certificates[0], _key(state, ROOT_KEY)
    check_authority(str(state.within(ROOT)), certificate, trust_domain)
    if key is not None and not is_key_of(key, certificate):
        raise StateUnusable(f"{state.within(ROOT_KEY)}: not the key of {state.within(ROOT)}")
    if certificate.not_valid_after_utc <= now:
        raise Refused(f"{state.within(ROOT)}: the root ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
    return _Root(certificate, key, state.read(ROOT_KEY) or b"")


def _load_signer(state: StateDir, root: _Root, trust_domain: str) -> _Signer | None:
    chain, key = _certificates(state, INTERMEDIATE), _key(state, INTERMEDIATE_KEY)
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        missing, there = (INTERMEDIATE, INTERMEDIATE_KEY) if chain is None else (INTERMEDIATE_KEY, INTERMEDIATE)
        raise StateUnusable(f"{state.within(missing)}: missing, while {state.within(there)} is there")
    for certificate in chain:
        check_authority(str(state.within(INTERMEDIATE)), certificate, trust_domain)
    if not is_key_of(key, chain[0]):
        raise StateUnusable(f"{state.within(INTERMEDIATE_KEY)}: not the key of {state.within(INTERMEDIATE)}")
    check_chain(str(state.within(INTERMEDIATE)), chain, root.certificate, str(state.within(ROOT)))
    return _Signer(chain, key)


def _is_due(certificate: x509.Certificate, root: x509.Certificate, now: datetime) -> bool:
    ends = certificate.not_valid_after_utc
    life = ends - certificate.not_valid_before_utc
    # Near the root's own end a new one would not live longer.
    return ends - now < life * RENEWED_AT and ends < root.not_valid_after_utc


def _certificates(state: StateDir, name: str) -> tuple[x509.Certificate, ...] | None:
    data = state.read(name)
    return None if data is None else read_certificates(str(state.within(name)), data)


def _key(state: StateDir, name: str) -> SigningKey | None:
    data = state.read(name)
    return None if data is None else read_key(str(state.within(name)), data)
