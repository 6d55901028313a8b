"""Other trust domains' last good bundles on disk."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from isthmus.errors import BundleUnavailable, StateUnusable
from isthmus.federation.source import BundleSource
from isthmus.model.spiffe_bundle import SpiffeBundle, read_spiffe_bundle


@dataclass(frozen=True, slots=True)
class StoredBundle:
    bundle: SpiffeBundle
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class BundleStore:
    """One file per source; what another endpoint gave is not read. ``folder`` is made on the first write; 0700."""

    folder: Path

    def load(self, source: BundleSource) -> StoredBundle | None:
        """What :meth:`save` wrote; None if there is nothing, or nothing whole: the endpoint will be asked anyway."""
        try:
            document = json.loads(self._path(source).read_bytes())
            bundle = read_spiffe_bundle(document["bundle"], source.trust_domain)
            fetched_at = datetime.fromisoformat(document["fetched_at"])
        except (OSError, ValueError, KeyError, TypeError, BundleUnavailable):
            return None
        return StoredBundle(bundle, fetched_at) if fetched_at.tzinfo is not None else None

    def save(self, source: BundleSource, bundle: SpiffeBundle, fetched_at: datetime) -> None:
        """``fetched_at`` has a time zone. Raises StateUnusable."""
        content = json.dumps({"bundle": bundle.to_json(), "fetched_at": fetched_at.isoformat()}).encode()
        path = self._path(source)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as fault:
            raise StateUnusable(f"{path}: {fault.strerror}") from fault

    def _path(self, source: BundleSource) -> Path:
        anchor = source.anchor.to_json() if source.anchor is not None else None
        about = [source.trust_domain, source.url, source.profile.value, source.endpoint_spiffe_id, anchor]
        return self.folder / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()}.json"
