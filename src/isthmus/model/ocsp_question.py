"""What Envoy tells the node's agent, with each connection, of how clients' certificates are to be checked."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import timedelta

from isthmus.model.revocation import ClientOcsp, OcspMode

HEADER = "x-isthmus-ocsp"
"""Of the gRPC call: Envoy's configuration sets it, no client can."""

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class OcspQuestion:
    """``authorities``: the secret with the client CAs, one of which issued the certificate."""

    authorities: str
    policy: ClientOcsp

    def encode(self) -> str:
        """One word of letters: Envoy would see variables in a ``%``."""
        policy = self.policy
        data = {
            "authorities": self.authorities,
            "mode": policy.mode.value,
            "responder": policy.responder,
            "timeout_ms": policy.timeout // _MILLISECOND,
            "max_age_ms": policy.max_age // _MILLISECOND,
        }
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode()

    @classmethod
    def decode(cls, text: str) -> OcspQuestion:
        """What :meth:`encode` wrote. Raises ValueError."""
        try:
            data = json.loads(base64.urlsafe_b64decode(text))
            policy = ClientOcsp(
                OcspMode(data["mode"]),
                data["responder"],
                data["timeout_ms"] * _MILLISECOND,
                data["max_age_ms"] * _MILLISECOND,
            )
            return cls(data["authorities"], policy)
        except (KeyError, TypeError, binascii.Error) as broken:
            raise ValueError("not a question about a certificate") from broken
