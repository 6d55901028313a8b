"""The keys for JWT-SVIDs, in ``jwt-svid/`` of the state directory."""

from __future__ import annotations

import json
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from isthmus.errors import StateUnusable
from isthmus.identity.authority import private_key
from isthmus.identity.jwt_keys import JwtKeys
from isthmus.identity.jwt_svid import JwtKey
from isthmus.state import StateDir

FILE = "jwt-svid/keys.json"


def load(state: StateDir) -> JwtKeys:
    """Those that were saved; none at first. Raises StateUnusable: the file cannot be read, or is not ours."""
    content = state.read(FILE)
    if content is None:
        return JwtKeys()
    try:
        return JwtKeys(tuple(_key(entry) for entry in json.loads(content)))
    except (ValueError, KeyError, TypeError):
        # Without its cause: a parser's message may quote what it read.
        raise StateUnusable(f"{state.within(FILE)}: not the keys for JWT-SVIDs") from None


def encoded(keys: JwtKeys) -> bytes:
    """What :func:`load` reads from FILE: private keys, so for private files alone."""
    entries = [
        {
            "made": key.made.isoformat(),
            "expires": key.expires.isoformat(),
            "key": private_key(key.private).pem.decode(),
        }
        for key in keys.keys
    ]
    return json.dumps(entries).encode()


def _key(entry: dict[str, str]) -> JwtKey:
    private = load_pem_private_key(entry["key"].encode(), None)
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise ValueError("not a P-256 key")
    return JwtKey.of(private, datetime.fromisoformat(entry["made"]), datetime.fromisoformat(entry["expires"]))
