"""A CA's web server: lists of revoked certificates and answers of OCSP, as each stands at the moment."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from tests.real.pki import Authority, Leaf


class RevocationServer:
    """``/NAME.crl`` and, for questions, ``/NAME``, of the authorities it was given by name.

    ``life``: of every list and answer, from when it is asked for. ``down``: names that answer 503.
    """

    def __init__(self, life: timedelta, **authorities: Authority) -> None:
        self._authorities = authorities
        self.life = life
        self.revoked: set[int] = set()
        self.unknown: set[int] = set()
        self.down: set[str] = set()
        self.delays: dict[str, float] = {}
        """Seconds, by name."""
        self.asked: Counter[str] = Counter()
        """By name, of lists with ``.crl``."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> RevocationServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{path}"

    def revoke(self, leaf: Leaf | Authority) -> None:
        self.revoked.add(leaf.certificate.serial_number)

    def crl(self, name: str) -> bytes:
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._authorities[name].subject)
        builder = builder.last_update(now - timedelta(seconds=1)).next_update(now + self.life)
        for serial in sorted(self.revoked):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._authorities[name].private, hashes.SHA256()).public_bytes(Encoding.DER)

    def answer(self, name: str, question: bytes) -> bytes:
        asked, authority, now = ocsp.load_der_ocsp_request(question), self._authorities[name], datetime.now(UTC)
        status = ocsp.OCSPCertStatus.GOOD
        if asked.serial_number in self.revoked:
            status = ocsp.OCSPCertStatus.REVOKED
        elif asked.serial_number in self.unknown:
            status = ocsp.OCSPCertStatus.UNKNOWN
        builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
            asked.issuer_name_hash,
            asked.issuer_key_hash,
            asked.serial_number,
            asked.hash_algorithm,
            status,
            now - timedelta(seconds=1),
            now + self.life,
            now if status is ocsp.OCSPCertStatus.REVOKED else None,
            None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, authority.certificate)
        return builder.sign(authority.private, hashes.SHA256()).public_bytes(Encoding.DER)


def _handler(server: RevocationServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(lambda name: server.crl(name.removesuffix(".crl")), "application/pkix-crl")

        def do_POST(self) -> None:
            question = self.rfile.read(int(self.headers["content-length"]))
            self._send(lambda name: server.answer(name, question), "application/ocsp-response")

        def _send(self, content: Any, kind: str) -> None:
            name = self.path.strip("/")
            server.asked[name] += 1
            time.sleep(server.delays.get(name, 0))
            down = name in server.down
            body = b"" if down else content(name)
            self.send_response(503 if down else 200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def answered_at(url: str) -> x509.AuthorityInformationAccess:
    """A certificate's word on who answers about it."""
    place = x509.UniformResourceIdentifier(url)
    return x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.OCSP, place)])


def with_points(authority: Authority, *urls: str) -> bytes:
    """The certificate of ``authority`` again, PEM, which now says where its issuer publishes lists."""
    old = authority.certificate
    builder = x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), old.serial_number)
    builder = builder.not_valid_before(old.not_valid_before_utc).not_valid_after(old.not_valid_after_utc)
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    names = [x509.UniformResourceIdentifier(url) for url in urls]
    points = x509.CRLDistributionPoints([x509.DistributionPoint([name], None, None, None) for name in names])
    signer = authority.issuer or authority
    return builder.add_extension(points, False).sign(signer.private, hashes.SHA256()).public_bytes(Encoding.PEM)
