"""Keys on disk: each source's last good key set, files given by ``--jwks``, the development signing key."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from isthmus.diag import Code, Severity
from isthmus.errors import JwksUnavailable, StateUnusable
from isthmus.jwks.signing import SigningKey, new_signing_key, read_signing_key
from isthmus.jwks.source import JwksSource
from isthmus.model.key_set import KeySet, read_key_set

_MAX_FILE_BYTES: Final = 1024 * 1024

JWKS_FILE = Code(
    id="ISM6101",
    severity=Severity.ERROR,
    title="A JWKS file is not one",
    template="--jwks {issuer}: {reason}",
    what="A file given with --jwks ISSUER=FILE cannot be read as a JSON Web Key Set with a public signing key.",
    why="Without the issuer's keys every token of that issuer is refused; a private key in the file could sign for it.",
    example="--jwks https://issuer.example=key.pem",
    fix='Give a JSON file {"keys": [...]} of public keys. `isthmus token --jwks` prints that of the development key.',
)


@dataclass(frozen=True, slots=True)
class StoredKeys:
    keys: KeySet
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class JwksStore:
    """Last good key sets, one file per source. ``folder`` is made on the first write; 0700, its files 0600."""

    folder: Path

    def load(self, source: JwksSource) -> StoredKeys | None:
        """What :meth:`save` wrote; None if there is nothing, or nothing whole: the issuer will be asked anyway."""
        try:
            document = json.loads(self._path(source).read_bytes())
            if (document["issuer"], document["uri"]) != (source.issuer, source.uri):
                return None
            fetched_at = datetime.fromisoformat(document["fetched_at"])
            keys = read_key_set(json.dumps(document["keys"]))
        except (OSError, ValueError, KeyError, TypeError, JwksUnavailable):
            return None
        return StoredKeys(keys, fetched_at) if fetched_at.tzinfo is not None else None

    def save(self, source: JwksSource, keys: KeySet, fetched_at: datetime) -> None:
        """Keep ``keys``; ``fetched_at`` has a time zone. Raises StateUnusable."""
        document = {
            "issuer": source.issuer,
            "uri": source.uri,
            "fetched_at": fetched_at.isoformat(),
            "keys": json.loads(keys.text),
        }
        path = self._path(source)
        try:
            temporary = _write_beside(path, json.dumps(document).encode())
            os.replace(temporary, path)
        except OSError as fault:
            raise StateUnusable(f"{path}: {fault.strerror}") from fault

    def _path(self, source: JwksSource) -> Path:
        name = json.dumps([source.issuer, source.uri]).encode()
        return self.folder / f"{hashlib.sha256(name).hexdigest()}.json"


def read_file(path: Path) -> KeySet:
    """The key set in ``path`` (JSON, at most 1 MiB). Raises JwksUnavailable, naming the file."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
    except OSError as fault:
        raise JwksUnavailable(f"{path}: {fault.strerror}") from None
    if len(text) > _MAX_FILE_BYTES:
        raise JwksUnavailable(f"{path}: more than {_MAX_FILE_BYTES} bytes")
    try:
        return read_key_set(text)
    except JwksUnavailable as fault:
        raise JwksUnavailable(f"{path}: {fault}") from None


def load_signing_key(folder: Path) -> SigningKey:
    """The development signing key in ``folder`` (``key.pem``, 0600), made on the first call. Raises StateUnusable."""
    path = folder / "key.pem"
    try:
        if not path.exists():
            temporary = _write_beside(path, new_signing_key().pem())
            try:
                # Of two commands that both make a key, the first one's counts, for both.
                os.link(temporary, path)
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        pem = path.read_bytes()
    except OSError as fault:
        raise StateUnusable(f"{path}: {fault.strerror}") from fault
    try:
        return read_signing_key(pem)
    except ValueError:
        raise StateUnusable(f"{path}: not a private key; remove it to have a new one made") from None


def _write_beside(path: Path, content: bytes) -> Path:
    """Write a file that only this user reads, whole, in the folder of ``path``; to be renamed or linked into place."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink()
        raise
    return temporary
