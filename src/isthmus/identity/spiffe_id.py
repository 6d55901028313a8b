"""SPIFFE IDs, parsed as strictly as the standard allows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from isthmus.errors import SpiffeIdInvalid

MAX_BYTES = 2048
MAX_TRUST_DOMAIN_BYTES = 255

_SCHEME = "spiffe://"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+")
_NODE = ("isthmus", "node")


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """``spiffe://<trust_domain><path>``; ``path`` is empty (the trust domain itself) or starts with a slash.

    A value is valid: making one raises SpiffeIdInvalid for anything that the standard does not allow.
    Source: SPIFFE-ID.md, section 2.
    """

    trust_domain: str
    path: str = ""

    def __post_init__(self) -> None:
        check_trust_domain(self.trust_domain)
        if self.path:
            if not self.path.startswith("/"):
                raise SpiffeIdInvalid(f"the path of a SPIFFE ID starts with a slash: {self.path!r}")
            for segment in self.path[1:].split("/"):
                check_segment(segment)
        if len(self.uri) > MAX_BYTES:
            raise SpiffeIdInvalid(f"a SPIFFE ID has at most {MAX_BYTES} bytes, not {len(self.uri)}")

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Read a SPIFFE ID. Raises SpiffeIdInvalid: other scheme, port, user, query, fragment, percent-encoding,
        upper-case trust domain, empty or dot segment, slash at the end, more than 2048 bytes.
        """
        if not text.startswith(_SCHEME):
            raise SpiffeIdInvalid(f"a SPIFFE ID starts with {_SCHEME}: {_shown(text)}")
        trust_domain, slash, rest = text.removeprefix(_SCHEME).partition("/")
        try:
            return cls(trust_domain, slash + rest)
        except SpiffeIdInvalid as invalid:
            raise SpiffeIdInvalid(f"not a SPIFFE ID: {_shown(text)}: {invalid}") from None

    @classmethod
    def workload(cls, trust_domain: str, namespace: str, service_account: str) -> SpiffeId:
        """``spiffe://<trust domain>/ns/<namespace>/sa/<service account>``, as Istio names workloads."""
        check_segment(namespace)
        check_segment(service_account)
        return cls(trust_domain, f"/ns/{namespace}/sa/{service_account}")

    @classmethod
    def node(cls, trust_domain: str, name: str) -> SpiffeId:
        """``spiffe://<trust domain>/isthmus/node/<name>``: the agent of one machine."""
        check_segment(name)
        return cls(trust_domain, "/" + "/".join((*_NODE, name)))

    @property
    def uri(self) -> str:
        return f"{_SCHEME}{self.trust_domain}{self.path}"

    @property
    def node_name(self) -> str | None:
        """The machine whose agent this is; None if it is no agent."""
        match self.path.split("/"):
            case ["", *kind, name] if tuple(kind) == _NODE:
                return name
        return None

    def __str__(self) -> str:
        return self.uri


def check_trust_domain(name: str) -> None:
    """Raises SpiffeIdInvalid for anything that cannot be a trust domain's name."""
    if not _TRUST_DOMAIN.fullmatch(name) or len(name) > MAX_TRUST_DOMAIN_BYTES:
        raise SpiffeIdInvalid(
            f"a trust domain is 1 to {MAX_TRUST_DOMAIN_BYTES} of a-z, 0-9, dot, dash, underscore: {_shown(name)}"
        )


def check_segment(segment: str) -> None:
    """Raises SpiffeIdInvalid for anything that cannot stand between two slashes of a path."""
    if not _SEGMENT.fullmatch(segment) or segment in {".", ".."}:
        raise SpiffeIdInvalid(
            f"a segment of a path is letters, digits, dots, dashes, underscores, and no dot segment: {_shown(segment)}"
        )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "…")
