"""What a person carries to another machine: a join token, and how to know the control plane that it is for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.errors import NotEnrolled, Refused, SpiffeIdInvalid
from isthmus.identity.spiffe_id import SpiffeId

_PREFIX = "isthmus-join-1."
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class Ticket:
    """``pins``: SHA-256 of the mesh's roots (DER), in hexadecimal: one of them certifies the control plane."""

    node: str
    control_plane_id: SpiffeId
    pins: tuple[str, ...]
    enrol_port: int
    """At the control plane's host: where the token is shown."""
    token: str = field(repr=False)

    def encode(self) -> str:
        """One word of a few hundred characters."""
        content = {
            "node": self.node,
            "control_plane": self.control_plane_id.uri,
            "roots": list(self.pins),
            "enrol_port": self.enrol_port,
            "token": self.token,
        }
        return _PREFIX + base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Ticket:
        """Raises Refused: not what :meth:`encode` made; the text is not repeated."""
        written = text.strip()
        if not written.startswith(_PREFIX) or len(written) > _LONGEST:
            raise Refused("this is no join token: `isthmus node token` prints one")
        try:
            encoded = written.removeprefix(_PREFIX)
            content = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
            return cls(
                node=str(content["node"]),
                control_plane_id=SpiffeId.parse(content["control_plane"]),
                pins=tuple(str(pin) for pin in content["roots"]),
                enrol_port=int(content["enrol_port"]),
                token=str(content["token"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, SpiffeIdInvalid):
            raise Refused("this join token is damaged: copy it whole") from None


def pin_of(root: x509.Certificate) -> str:
    """As ``openssl x509 -fingerprint -sha256`` shows it, without the colons, in lower case."""
    return hashlib.sha256(root.public_bytes(Encoding.DER)).hexdigest()


def pinned(bundle: str, pins: tuple[str, ...]) -> str:
    """Of the certificates of ``bundle`` (PEM) those that ``pins`` name. Raises NotEnrolled: none of them."""
    try:
        roots = x509.load_pem_x509_certificates(bundle.encode())
    except ValueError:
        raise NotEnrolled("what answers there has no certificates to show: it is not the control plane") from None
    kept = [root.public_bytes(Encoding.PEM).decode() for root in roots if pin_of(root) in pins]
    if not kept:
        raise NotEnrolled(
            "what answers there has another root certificate than the one that the join token names: it is not the "
            "control plane that made the token, and was told nothing"
        )
    return "".join(kept)
