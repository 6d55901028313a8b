"""Signers of ours that were replaced, with their keys: as long as what they signed lives, they list what is revoked.

Only those of the state's own authority. A user's key stays where the user keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime

from cryptography import x509

from isthmus.errors import StateUnusable
from isthmus.identity.authority import MAX_TTL, SigningKey, private_key
from isthmus.identity.crl import Signer
from isthmus.identity.material import is_key_of, issued_by, pem_of, read_certificates, read_key
from isthmus.state import StateDir

RETIRED = "ca/retired.json"


def retired_signers(state: StateDir, now: datetime) -> tuple[Signer, ...]:
    """Those of whose signature something may live. Raises StateUnusable: the file is none of ours."""
    data = state.read(RETIRED)
    if data is None:
        return ()
    where = str(state.within(RETIRED))
    try:
        listed = [(one["certificate"], one["key"], datetime.fromisoformat(one["until"])) for one in json.loads(data)]
    except (ValueError, TypeError, KeyError):
        raise StateUnusable(f"{where}: not a list of signers that were replaced") from None
    found = [_signer(where, certificate.encode(), key.encode(), until) for certificate, key, until in listed]
    return tuple(one for one in found if one.until > now)


def retire(state: StateDir, certificate: x509.Certificate, key: SigningKey, now: datetime) -> None:
    """Keep a signer that is about to be replaced. One that is kept already may have signed on: it stays longer."""
    kept = retired_signers(state, now)
    until = min(now + MAX_TTL, certificate.not_valid_after_utc)
    until = max((until, *(one.until for one in kept if one.certificate == certificate)))
    others = (one for one in kept if one.certificate != certificate)
    _write(state, (*others, Signer(certificate, key, until)))


def forget_below(state: StateDir, roots: Iterable[x509.Certificate], now: datetime) -> None:
    """Forget the signers of roots that nobody trusts any more."""
    kept, gone = retired_signers(state, now), tuple(roots)
    left = tuple(one for one in kept if not any(issued_by(one.certificate, root) for root in gone))
    if left != kept:
        _write(state, left)


def _write(state: StateDir, signers: Iterable[Signer]) -> None:
    listed = [
        {
            "certificate": pem_of(one.certificate).decode(),
            "key": private_key(one.key).pem.decode(),
            "until": one.until.isoformat(),
        }
        for one in signers
    ]
    state.write_private(RETIRED, json.dumps(listed).encode())


def _signer(where: str, certificate: bytes, key: bytes, until: datetime) -> Signer:
    found, signing_key = read_certificates(where, certificate)[0], read_key(where, key)
    if not is_key_of(signing_key, found):
        raise StateUnusable(f"{where}: a key that is not of its certificate")
    return Signer(found, signing_key, until)
