"""Keys of every sort, each made once per run, and their JWKs."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

Key = RSAKey | ECKey | OKPKey | OctKey


@cache
def key(name: str) -> Key:
    """``rsa-*``, ``oct``, or a curve's name; anything after a blank tells keys of one sort apart."""
    kind = name.split(" ")[0]
    if kind.startswith("rsa"):
        return RSAKey.generate_key(2048)
    if kind == "oct":
        return OctKey.generate_key(256)
    if kind in ("Ed25519", "Ed448", "X25519"):
        return OKPKey.generate_key(kind)
    return ECKey.generate_key(kind)


def jwk(name: str, **members: Any) -> dict[str, Any]:
    """The public JWK of ``key(name)`` (of ``oct`` the whole), its kid the name; a member given as None is left out."""
    found = dict(key(name).as_dict(private=name == "oct"), kid=name) | members
    return {member: value for member, value in found.items() if value is not None}


def jwks(*keys: Any) -> str:
    return json.dumps({"keys": keys})
