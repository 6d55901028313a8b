"""Tokens that no library would make: any header, any text for claims, signed however an attacker likes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from isthmus.jwks.signing import SigningKey, new_signing_key

Sign = Callable[[bytes], bytes]


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def made(header: Mapping[str, Any] | str, claims: Mapping[str, Any] | str, sign: Sign) -> str:
    """A compact JWS. Text goes in as it is."""
    parts = (one if isinstance(one, str) else json.dumps(one) for one in (header, claims))
    signed = ".".join(_encoded(part.encode()) for part in parts)
    return f"{signed}.{_encoded(sign(signed.encode()))}"


@dataclass(frozen=True, slots=True)
class Forger:
    """Knows ``key``, the issuer's own; what a token is otherwise is the caller's."""

    key: SigningKey
    issuer: str
    audience: str = "shop"

    @classmethod
    def new(cls, issuer: str = "") -> Forger:
        """With a key that nobody knows."""
        return cls(new_signing_key(), issuer)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Good ones but for ``changes``; None leaves one out."""
        now = int(time.time())
        usual = {"iss": self.issuer, "sub": "alice", "aud": self.audience, "iat": now, "exp": now + 3600, **changes}
        return {name: value for name, value in usual.items() if value is not None}

    def header(self, **changes: Any) -> dict[str, Any]:
        return {"alg": "RS256", "typ": "JWT", "kid": self.key.thumbprint, **changes}

    def rsa(self, signed: bytes) -> bytes:
        return self.key.private.sign(signed, padding.PKCS1v15(), hashes.SHA256())

    def token(self, header: Mapping[str, Any] | None = None, claims: Mapping[str, Any] | str | None = None) -> str:
        """With the issuer's own signature."""
        return made(header or self.header(), claims if claims is not None else self.claims(), self.rsa)

    def public_pem(self) -> bytes:
        return self.key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def unsigned(signed: bytes) -> bytes:
    return b""


def by_hmac(secret: bytes) -> Sign:
    return lambda signed: hmac.new(secret, signed, hashlib.sha256).digest()


def by_somebody() -> Sign:
    """Another RSA key."""
    return Forger.new().rsa
