"""What a service sees of who asks: the peer's identity and the user's claims, both verified by its sidecar."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers

PEER_HEADER = "x-forwarded-client-cert"
PAYLOAD_HEADER = "x-jwt-payload"
"""``outputPayloadToHeader`` of the shop's RequestAuthentication."""

_QUOTED = r'"(?:\\.|[^"\\])*"'
_ELEMENT = re.compile(rf'(?:[^,"]|{_QUOTED})+')
_FIELD = re.compile(rf'(?:[^;"]|{_QUOTED})+')


@dataclass(frozen=True, slots=True)
class Seen:
    """``caller``: the SPIFFE ID of the peer; ``claims``: of the user's token, empty without one."""

    caller: str | None
    claims: dict[str, Any]

    @property
    def subject(self) -> str | None:
        subject = self.claims.get("sub")
        return subject if isinstance(subject, str) else None

    @property
    def staff(self) -> bool:
        return self.claims.get("role") == "staff"

    def as_json(self, service: str) -> dict[str, Any]:
        return {"service": service, "caller": self.caller, "subject": self.subject}


def seen(headers: Headers) -> Seen:
    """Only behind a sidecar: without one, anybody can write these headers."""
    return Seen(_peer(headers.get(PEER_HEADER, "")), _payload(headers.get(PAYLOAD_HEADER, "")))


def _peer(header: str) -> str | None:
    """The URI of the last element, which the sidecar wrote (Envoy: x-forwarded-client-cert)."""
    elements = _ELEMENT.findall(header)
    for field in _FIELD.findall(elements[-1]) if elements else ():
        name, _, value = field.partition("=")
        if name.strip().lower() == "uri":
            return str(value.strip('"'))
    return None


def _payload(header: str) -> dict[str, Any]:
    try:
        claims = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
