"""Where the credentials of a control plane are: a file in its state, or a PostgreSQL that a file in its state names."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from isthmus.errors import Refused

FILE = "credentials/keys.sqlite"
_URL = "credentials/store-url"
_SCHEMES = ("postgresql", "postgres")


class Files(Protocol):
    """The state directory, as far as this needs it."""

    def read(self, name: str) -> bytes | None: ...
    def write_private(self, name: str, data: bytes) -> None: ...
    def remove(self, name: str) -> None: ...


def store_url(state: Files) -> str | None:
    """The PostgreSQL that holds the credentials, password and all; None: :data:`FILE` does.

    Raises Refused (something else stands there) and StateUnusable.
    """
    raw = state.read(_URL)
    return None if raw is None else read_url(raw.decode(errors="replace"))


def remember(state: Files, url: str | None) -> None:
    """From now on the credentials are there. Raises StateUnusable."""
    if url is None:
        state.remove(_URL)
    else:
        state.write_private(_URL, f"{url}\n".encode())


def read_url(written: str) -> str:
    """A PostgreSQL URL, as libpq takes it. Raises Refused, without repeating what may hold a password."""
    url = written.strip()
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for what is no number
        socket = any(name == "host" for name, _ in parse_qsl(parts.query))
    except ValueError:
        raise Refused("the store's URL cannot be read") from None
    if parts.scheme not in _SCHEMES or any(character.isspace() for character in url):
        raise Refused("the store's URL must be postgresql://USER:PASSWORD@HOST/DATABASE")
    if not (parts.hostname or socket) or len(parts.path) < 2:
        raise Refused("the store's URL names no host or no database")
    return url


def shown_url(url: str) -> str:
    """``url`` for people: without user, password and options."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port is not None else ""
    return f"postgresql://{parts.hostname or ''}{port}{parts.path}"
