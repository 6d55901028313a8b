"""Development tokens (``isthmus token``): one RSA key of the state directory signs for any issuer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey

from isthmus.model.key_set import KeySet, read_key_set

_ALGORITHM: Final = "RS256"
"""What every verifier knows."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An RSA key of 2048 bits; ``repr`` and ``str`` show its public thumbprint alone."""

    private: rsa.RSAPrivateKey = field(repr=False)
    thumbprint: str
    """RFC 7638, SHA-256: the ``kid``."""

    def pem(self) -> bytes:
        """PKCS#8, not encrypted."""
        form = serialization.PrivateFormat.PKCS8
        return self.private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def new_signing_key() -> SigningKey:
    return _signing_key(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def read_signing_key(pem: bytes) -> SigningKey:
    """The key that :meth:`SigningKey.pem` wrote. Raises ValueError: not an RSA private key."""
    # Checking the numbers costs 40 ms of every `isthmus token`; the key is our own, from a file that only we write.
    private = serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise ValueError("not an RSA key")
    return _signing_key(private)


def _signing_key(private: rsa.RSAPrivateKey) -> SigningKey:
    return SigningKey(private, RSAKey.import_key(private.public_key()).thumbprint())


def public_key_set(key: SigningKey) -> KeySet:
    """What verifies the tokens of :func:`mint`; its ``text`` is a file for ``--jwks``."""
    public = RSAKey.import_key(key.private.public_key()).as_dict(private=False)
    return read_key_set(json.dumps({"keys": [{**public, "kid": key.thumbprint, "alg": _ALGORITHM, "use": "sig"}]}))


def mint(
    key: SigningKey,
    *,
    issuer: str,
    subject: str | None,
    audiences: Sequence[str],
    claims: Mapping[str, Any],
    expires_in: timedelta,
    now: datetime,
) -> str:
    """A signed JWT (RFC 7519), valid from ``now`` for ``expires_in``, in whole seconds.

    One audience becomes text, several a list, none no ``aud``. ``claims`` win over all of these: a token that expired
    yesterday is what some tests need.
    """
    issued_at = int(now.timestamp())
    payload: dict[str, Any] = {"iss": issuer, "iat": issued_at, "exp": issued_at + int(expires_in.total_seconds())}
    if subject is not None:
        payload["sub"] = subject
    if audiences:
        payload["aud"] = audiences[0] if len(audiences) == 1 else list(audiences)
    header = {"alg": _ALGORITHM, "kid": key.thumbprint}
    return jwt.encode(header, payload | dict(claims), RSAKey.import_key(key.private), algorithms=[_ALGORITHM])


def parse_claim(text: str) -> tuple[str, Any]:
    """``name=value`` of ``--claim``: the value as JSON where it is JSON, else as text; the name is taken as it stands.

    ``groups=["a","b"]`` is a list, ``admin=true`` a boolean, ``level=3`` a number, ``level="3"`` and ``role=api-user``
    are text. Raises ValueError: no ``=``, or no name.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value, parse_constant=_reject_constant)
    except ValueError:
        return name, value


def _reject_constant(name: str) -> Any:
    # NaN and Infinity are Python's, not JSON's: text, then.
    raise ValueError(name)
