"""Bundles on disk: for a control plane that starts again before it has asked anybody, and for those who decide."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from isthmus.decide.rego.activation import Wish
from isthmus.decide.rego.bundle import Bundle, read_bundle
from isthmus.errors import RegoBundleRefused, StateUnusable
from isthmus.model.rego_bundle import ActiveBundle, bundle_file
from isthmus.state import StateDir

_FOLDER = "bundles"


@dataclass(frozen=True, slots=True)
class StoredBundle:
    active: ActiveBundle
    tag: str | None


@dataclass(frozen=True, slots=True)
class BundleStore:
    """In the state: each bundle by the digest of its bytes, and for each wish the one that was good last."""

    state: StateDir

    def load(self, wish: Wish) -> StoredBundle | None:
        """What :meth:`save` wrote, verified anew; None if there is nothing that can still be believed."""
        try:
            about = json.loads(self.state.read(_about(wish)) or b"")
            digest, tag = str(about["digest"]), about["tag"]
            bundle = read_bundle(self.packed(digest), wish.verifier)
        except (ValueError, KeyError, TypeError, StateUnusable, RegoBundleRefused):
            return None
        return StoredBundle(ActiveBundle(digest, bundle.revision), tag if isinstance(tag, str) else None)

    def save(self, wish: Wish, packed: bytes, tag: str | None) -> str:
        """The digest. Raises StateUnusable."""
        digest = sha256(packed).hexdigest()
        self.state.write_private(bundle_file(digest), packed)
        self.state.write_private(_about(wish), json.dumps({"digest": digest, "tag": tag}).encode())
        return digest

    def packed(self, digest: str) -> bytes:
        """Raises RegoBundleRefused: not here, or not what it was; StateUnusable."""
        if not digest.isalnum():
            raise RegoBundleRefused("not a digest")
        found = self.state.read(bundle_file(digest))
        if found is None:
            raise RegoBundleRefused("the bundle is not on this machine (yet)")
        if sha256(found).hexdigest() != digest:
            raise RegoBundleRefused("the bundle on this machine is not what was fetched: somebody changed the file")
        return found

    def has(self, digest: str) -> bool:
        return self.state.within(bundle_file(digest)).exists()

    def bundle(self, digest: str) -> Bundle:
        """One whose signature was verified where it was fetched: the digest came with the plan. As :meth:`packed`."""
        return read_bundle(self.packed(digest))

    def prune(self, keep: Iterable[str]) -> None:
        """Remove the bundles of all other digests. Raises nothing: what cannot be removed costs room alone."""
        names = {bundle_file(digest) for digest in keep}
        with suppress(OSError):
            for file in self.state.within(_FOLDER).glob("*.tar.gz"):
                if f"{_FOLDER}/{file.name}" not in names:
                    file.unlink()


def _about(wish: Wish) -> str:
    return f"{_FOLDER}/{wish.key}.json"
