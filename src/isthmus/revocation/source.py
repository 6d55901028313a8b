"""Where a list or an answer comes from, and who must have signed it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509

from isthmus.errors import RevocationUnavailable
from isthmus.revocation.crl import read_crl
from isthmus.revocation.held import Held
from isthmus.revocation.ocsp import CertificateStatus, build_request, read_response

OCSP_REQUEST_TYPE: Final = "application/ocsp-request"


@dataclass(frozen=True, slots=True)
class CrlSource:
    """A distribution point. ``authorities``: PEM, the CAs one of which must have signed the list."""

    url: str
    authorities: bytes = field(repr=False)

    @property
    def key(self) -> str:
        """Its name among files."""
        return _digest(b"crl", self.url.encode(), self.authorities)

    def request(self) -> bytes | None:
        """The body to POST; None: GET."""
        return None

    def read(self, data: bytes, now: datetime) -> Held:
        """Raises RevocationUnavailable; see :func:`isthmus.revocation.crl.read_crl`."""
        return read_crl(data, x509.load_pem_x509_certificates(self.authorities), now)

    def __str__(self) -> str:
        return f"CRL {self.url}"


@dataclass(frozen=True, slots=True)
class StapleSource:
    """The responder for one certificate of ours. ``certificate`` and ``issuer``: DER."""

    url: str
    certificate: bytes = field(repr=False)
    issuer: bytes = field(repr=False)

    @property
    def key(self) -> str:
        return _digest(b"ocsp", self.url.encode(), self.certificate, self.issuer)

    def request(self) -> bytes | None:
        return build_request(*self._pair())

    def read(self, data: bytes, now: datetime) -> Held:
        """Raises RevocationUnavailable: not believed, or it does not say "good", or not for how long.

        Nobody staples the news of the own certificate's revocation.
        """
        answer = read_response(data, *self._pair(), now)
        if answer.status is not CertificateStatus.GOOD:
            raise RevocationUnavailable(f"the responder says that the certificate is {answer.status.value}")
        if answer.next_update is None:
            raise RevocationUnavailable("the answer does not say how long it holds (nextUpdate)")
        return Held(der=data, this_update=answer.this_update, next_update=answer.next_update)

    def _pair(self) -> tuple[x509.Certificate, x509.Certificate]:
        return x509.load_der_x509_certificate(self.certificate), x509.load_der_x509_certificate(self.issuer)

    def __str__(self) -> str:
        return f"OCSP {self.url}"


Source = CrlSource | StapleSource


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
