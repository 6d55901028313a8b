"""Lists and answers on disk: a control plane that starts again has them before it has asked anybody."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from isthmus.errors import RevocationUnavailable, StateUnusable
from isthmus.revocation.held import Held
from isthmus.revocation.source import Source


@dataclass(frozen=True, slots=True)
class RevocationStore:
    """One file (DER) per source. ``folder`` is made on the first write; 0700, its files 0600."""

    folder: Path

    def load(self, source: Source, now: datetime) -> Held | None:
        """What :meth:`save` wrote, verified anew; None if there is nothing that can still be believed."""
        try:
            return source.read(self._path(source).read_bytes(), now)
        except (OSError, RevocationUnavailable):
            return None

    def save(self, source: Source, held: Held) -> None:
        """Raises StateUnusable."""
        path = self._path(source)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(held.der)
            os.replace(temporary, path)
        except OSError as fault:
            with suppress(OSError):
                temporary.unlink()
            raise StateUnusable(f"{path}: {fault.strerror}") from fault

    def _path(self, source: Source) -> Path:
        return self.folder / f"{source.key}.der"
