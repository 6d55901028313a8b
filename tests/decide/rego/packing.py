"""Bundles as tests need them: packed as ``opa build`` does, signed as ``opa sign`` does, or wrong in one place."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.jwk import OctKey, RSAKey

from isthmus.decide.rego.document import canonical, read_structured

Files = Mapping[str, str | bytes]
ALLOW = """\
package envoy.authz

default allow := false

allow if input.attributes.request.http.headers["x-user"] in data.users
"""


def pack(files: Files, *, links: Mapping[str, str] | None = None) -> bytes:
    """A gzipped tar. ``links``: symbolic ones, to where."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return packed.getvalue()


def users(*names: str, revision: str = "", policy: str = ALLOW) -> Files:
    """A bundle's files, whose policy lets these users in."""
    manifest = json.dumps({"revision": revision or "-".join(names), "roots": ["envoy", "users", "system"]})
    return {".manifest": manifest, "policy.rego": policy, "data.json": json.dumps({"users": list(names)})}


class Signer:
    """A key that signs bundles. ``secret``: of HS256; None: a new RSA key."""

    def __init__(self, key_id: str = "default", secret: bytes | None = None) -> None:
        self.id = key_id
        self._secret = secret
        self._private = None if secret is not None else rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.algorithm = "RS256" if secret is None else "HS256"

    @property
    def pem(self) -> bytes:
        assert self._private is not None
        return self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def token(self, payload: Mapping[str, Any], **header: Any) -> str:
        key = RSAKey.import_key(self._private) if self._private is not None else OctKey.import_key(self._secret or b"")
        protected = {"alg": self.algorithm, "kid": self.id, **header}
        return jws.serialize_compact(protected, json.dumps(payload), key, algorithms=[self.algorithm])

    def signed(self, files: Files, **claims: Any) -> Files:
        """``files`` and their signature. ``claims``: more, or others, of the payload."""
        listed = [
            {"name": name, "hash": digest(name, content), "algorithm": "SHA-256"} for name, content in files.items()
        ]
        token = self.token({"files": listed, **claims})
        return {**files, ".signatures.json": json.dumps({"signatures": [token]})}


def digest(name: str, content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    if name.rpartition("/")[2] in ("data.json", "data.yaml", ".manifest"):
        data = b"".join(canonical(read_structured(name, data, literal=True)))
    return hashlib.sha256(data).hexdigest()
