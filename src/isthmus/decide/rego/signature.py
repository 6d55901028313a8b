"""Signatures of OPA bundles: who signed, and that every file is what was signed. Pure.

``.signatures.json`` holds one JWT; its payload has every file's name, hash and hash algorithm. Source: OPA's
documentation, "Bundles", signing.
"""

from __future__ import annotations

import hashlib
import hmac
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OctKey, RSAKey

from isthmus.decide.rego.document import Unparsable, canonical, read_json, read_structured
from isthmus.errors import RegoBundleRefused

SIGNATURES: Final = ".signatures.json"
_STRUCTURED: Final = frozenset({"data.json", "data.yaml", ".manifest"})
"""Hashed by their values, so that white space does not count. OPA hashes data.yml as it is."""
_HASHES: Final[Mapping[str, str]] = {
    "SHA-224": "sha224",
    "SHA-256": "sha256",
    "SHA-384": "sha384",
    "SHA-512": "sha512",
    "SHA-512-224": "sha512_224",
    "SHA-512-256": "sha512_256",
}
"""OPA knows MD5 and SHA-1 as well, which prove nothing any more."""


@dataclass(frozen=True, slots=True)
class Key:
    """``material``: a public key, PEM; of an HS algorithm the shared secret."""

    id: str
    algorithm: str
    material: bytes = field(repr=False)
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Verifier:
    """``key_id``: the key that must have signed; None: the one that the signature names, or the only one there is."""

    keys: tuple[Key, ...]
    key_id: str | None = None
    scope: str = ""

    def verify(self, files: Mapping[str, bytes]) -> None:
        """``files``: all of a bundle. Raises RegoBundleRefused: unsigned, not by these keys, or not these files."""
        given = files.get(SIGNATURES)
        if given is None:
            raise RegoBundleRefused(f"it is not signed ({SIGNATURES} is missing), and a key is configured")
        payload = self._payload(_token(given))
        signed = _listed(payload.get("files"))
        for path in sorted(files.keys() - {SIGNATURES}):
            if path not in signed:
                raise RegoBundleRefused(f"{path}: not among the files that were signed")
            _check(path, files[path], *signed[path])
        if missing := signed.keys() - files.keys():
            raise RegoBundleRefused(f"{min(missing)}: was signed, but is not in the bundle")

    def _payload(self, token: str) -> Mapping[str, Any]:
        """Of a signature that holds."""
        try:
            unproved = jws.extract_compact(token.encode(), registry=_Registry())
            key = self._key(unproved.headers().get("kid"), read_json(unproved.payload))
            proved = _deserialize(token, key)
        except (JoseError, ValueError, TypeError, RecursionError) as fault:
            # A header may hold what the library does not expect. Its own words may quote what was signed.
            raise RegoBundleRefused(f"its signature does not hold ({type(fault).__name__})") from None
        payload = read_json(proved.payload)
        if not isinstance(payload, dict) or payload.get("scope", "") != (self.scope or key.scope):
            raise RegoBundleRefused("it was signed for another scope")
        return payload

    def _key(self, named: object, payload: object) -> Key:
        """Whose id the header names (or, as older OPAs write, the payload)."""
        older = payload.get("keyid") if isinstance(payload, dict) else None
        wanted = self.key_id or named or older
        if wanted is None and len(self.keys) == 1:
            return self.keys[0]
        for key in self.keys:
            if key.id == wanted:
                return key
        raise RegoBundleRefused(f"it was signed with the key {str(wanted)[:100]!a}, which is not configured")


class _Registry(jws.JWSRegistry):
    """A bundle may have ten thousand files, each of them named."""

    max_payload_length = 8 << 20


def readable(key: Key) -> str | None:
    """Why nothing can be verified by ``key``; None: it can."""
    try:
        _imported(key)
    except (JoseError, ValueError, TypeError) as fault:
        return f"the key {key.id!a} is not one for {key.algorithm} ({type(fault).__name__})"
    return None


def _imported(key: Key) -> RSAKey | ECKey | OctKey:
    with warnings.catch_warnings():
        # Shorter keys than it likes are the signer's choice, as in OPA.
        warnings.simplefilter("ignore", SecurityWarning)
        if key.algorithm.startswith("HS"):
            return OctKey.import_key(key.material)
        found = (ECKey if key.algorithm.startswith("ES") else RSAKey).import_key(key.material)
    if found.is_private:
        raise ValueError("a private key")
    return found


def _deserialize(token: str, key: Key) -> jws.CompactSignature:
    # The algorithm is the configured one, whatever the token says of itself.
    return jws.deserialize_compact(token, _imported(key), registry=_Registry(algorithms=[key.algorithm]))


def _token(content: bytes) -> str:
    try:
        found = read_json(content)
    except Unparsable as fault:
        raise RegoBundleRefused(f"{SIGNATURES}: {fault}") from None
    tokens = found.get("signatures") if isinstance(found, dict) else None
    if not isinstance(tokens, list) or len(tokens) != 1 or not isinstance(tokens[0], str):
        raise RegoBundleRefused(f"{SIGNATURES}: exactly one signature is expected")
    return str(tokens[0])


def _listed(files: object) -> dict[str, tuple[str, str]]:
    """Hash and algorithm by path."""
    if not isinstance(files, Iterable) or isinstance(files, str):
        raise RegoBundleRefused(f"{SIGNATURES}: names no files")
    found = {}
    for one in files:
        match one:
            case {"name": str() as name, "hash": str() as digest, "algorithm": str() as algorithm}:
                found[name.removeprefix("./").removeprefix("/")] = digest, algorithm
            case _:
                raise RegoBundleRefused(f"{SIGNATURES}: a file without name, hash or algorithm")
    return found


def _check(path: str, content: bytes, digest: str, algorithm: str) -> None:
    if algorithm not in _HASHES:
        raise RegoBundleRefused(f"{path}: hashed with {algorithm[:30]!a}, which is not taken")
    hashed = hashlib.new(_HASHES[algorithm])
    if PurePosixPath(path).name in _STRUCTURED:
        try:
            for piece in canonical(read_structured(path, content, literal=True)):
                hashed.update(piece)
        except Unparsable as fault:
            raise RegoBundleRefused(f"{path}: {fault}") from None
    else:
        hashed.update(content)
    if not hmac.compare_digest(hashed.hexdigest(), digest.lower()):
        raise RegoBundleRefused(f"{path}: is not what was signed (its hash differs)")
