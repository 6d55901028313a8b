"""What a proxy asks: the credentials that a request brought, and which of them its route takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.model.client_authentication import Accepted


@dataclass(frozen=True, slots=True)
class Question:
    """``headers``: in lower case, each with its values in order; of a request's only those that may be credentials.

    ``certificate``: of the TLS connection's other side, as Envoy writes it (PEM, percent-encoded); empty: none.
    ``token``: the payload of the token that Envoy verified; None: none. ``login``: the key of the login whose session
    it is of; None: it is a bearer token. ``token_failure``: what Envoy says of one that it could not. No repr shows
    what is secret.
    """

    accepted: Accepted
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    path: str = field(default="/", repr=False)
    certificate: str = field(default="", repr=False)
    token: Mapping[str, Any] | None = field(default=None, repr=False)
    token_failure: str | None = None
    login: str | None = None

    def values(self, header: str) -> tuple[str, ...]:
        """The values of a header (in lower case)."""
        return self.headers.get(header, ())

    def cookies(self) -> Iterator[tuple[str, str]]:
        """Names and values (RFC 6265, 5.4); what has no name is left out."""
        for value in self.values("cookie"):
            for pair in value.split(";"):
                name, equals, content = pair.strip().partition("=")
                if equals and name:
                    yield name.strip(), content.strip()
