"""Where a RegoPolicy's bundle comes from, who must have signed it, and which one is in force."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

TOKEN_KEYS = ("token",)
"""Of a Secret whose token opens a server."""
SIGNING_KEYS = ("key",)
"""Of a Secret that holds the shared secret of an HS algorithm."""


@dataclass(frozen=True, slots=True)
class BundleKey:
    """``public_key``: PEM; of an HS algorithm ``secret`` instead: the Secret (``namespace/name``) with the key."""

    id: str
    algorithm: str
    public_key: str | None = field(default=None, repr=False)
    secret: str | None = None
    scope: str = ""


@dataclass(frozen=True, slots=True)
class BundleVerification:
    """``key_id``: the key that must have signed; None: the one that the signature names."""

    keys: tuple[BundleKey, ...]
    key_id: str | None = None
    scope: str = ""


@dataclass(frozen=True, slots=True)
class BundleSource:
    """``location``: an http or https URL, or the path of a file. ``credential``: a Secret, as ``BundleKey.secret``.

    A server is asked again after a time between ``shortest`` and ``longest``.
    """

    location: str
    credential: str | None = None
    shortest: timedelta = timedelta(seconds=60)
    longest: timedelta = timedelta(seconds=120)
    verification: BundleVerification | None = None

    @property
    def is_file(self) -> bool:
        return not self.location.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class ActiveBundle:
    """``digest``: SHA-256 of its bytes, hexadecimal."""

    digest: str
    revision: str


@dataclass(frozen=True, slots=True)
class DecisionLogging:
    """Where a RegoPolicy's decisions are told. ``url``: they are posted to ``url/logs``; None: to a file alone.

    ``credential``: the Secret (``namespace/name``) whose token opens that server.
    """

    url: str | None = None
    credential: str | None = None


def bundle_file(digest: str) -> str:
    """Its name within the state directory, on every machine that decides by it."""
    return f"bundles/{digest}.tar.gz"
