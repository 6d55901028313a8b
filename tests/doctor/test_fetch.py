"""Against servers of Python's own TLS; against a gateway of ours: tests/real/test_failed_handshakes.py."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from isthmus.doctor.fetch import Target, look_at, versions_of
from isthmus.doctor.hello import Version
from isthmus.doctor.observed import Answer
from tests.real.pki import Authority, Leaf

ROOT = Authority("root")
LOCKED = ROOT.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
SERVER = ROOT.intermediate("between").issue("a.example.com")
DATE = b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nconnection: close\r\n\r\n"


@contextlib.contextmanager
def serving(folder: Path, *, mutual: bool = False, only_13: bool = False, says: bytes = b"") -> Iterator[int]:
    """A port; ``says``: this, in plaintext, to everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SERVER.written(folder, "server"))
    if mutual:
        context.load_verify_locations(cadata=ROOT.pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
    if only_13:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), plain:
                plain.settimeout(5)
                if says:
                    plain.sendall(says)
                    continue
                with context.wrap_socket(plain, server_side=True) as secured:
                    if secured.recv(4096):
                        secured.sendall(DATE)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        # Closing alone does not wake who accepts.
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


def target(port: int, own: tuple[Path, Path] | None = None, serials: frozenset[int] | None = None) -> Target:
    return Target("127.0.0.1", port, "a.example.com", ROOT.pem.decode(), "root", own, serials)


def client(folder: Path, leaf: Leaf) -> tuple[Path, Path]:
    file = leaf.written(folder, "client")
    return file, file


def test_a_server_that_asks_for_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as port:
        seen = look_at(target(port, serials=frozenset({SERVER.certificate.serial_number})))
        assert versions_of(seen)["TLS 1.2"] == versions_of(seen)["TLS 1.3"] == "spoken"
        assert "ECDHE-ECDSA-AES256-GCM-SHA384" in seen.ciphers
        assert seen.chain == (SERVER.certificate, *SERVER.intermediates)
        assert (seen.wanted, seen.bare.error, seen.trust, seen.stranger) == (None, "", "", False)
        assert seen.bare.server_time_off is not None
        assert seen.bare.server_time_off.days < -365
        other = Target("127.0.0.1", port, "a.example.com", Authority("other").pem.decode(), serials=frozenset({1}))
        assert "unable to get local issuer" in look_at(other).trust
        assert look_at(other).stranger


def test_a_server_that_demands_a_certificate(tmp_path: Path) -> None:
    with serving(tmp_path, mutual=True) as port:
        seen = look_at(target(port, client(tmp_path, ROOT.issue("client"))))
        assert seen.wanted == (), "it names none of its CAs"
        assert seen.bare.error
        assert seen.own is not None
        assert seen.own.attempt.error == ""
        refused = look_at(target(port, client(tmp_path, Authority("other").issue("client")))).own
        assert refused is not None
        assert refused.attempt.error == "unknown ca"


def test_tls_13_alone(tmp_path: Path) -> None:
    with serving(tmp_path, only_13=True) as port:
        seen = look_at(target(port))
    assert seen.versions is not None
    assert [version for version, answer in seen.versions.items() if answer is Answer.SPOKEN] == [Version.TLS1_3]
    assert seen.chain[0] == SERVER.certificate
    assert seen.ciphers == ()


def test_what_is_no_tls_and_what_is_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, says=b"SSH-2.0-x\r\n") as port:
        assert "SSH-2.0-x" in look_at(target(port)).not_tls
    assert "refused" in look_at(target(port)).unreachable


def test_who_never_answers_is_asked_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        seen = look_at(replace(target(listening.getsockname()[1]), patience=timedelta(seconds=0.3)))
        assert seen.silent
        listening.settimeout(0)
        listening.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_a_key_that_is_anothers(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(ROOT.issue("client").chain)
    key.write_bytes(ROOT.issue("client").key)
    with serving(tmp_path) as port:
        own = look_at(target(port, (certificate, key))).own
        assert own is not None
        assert not own.key_fits
        key.write_bytes(LOCKED)
        with pytest.raises(ValueError, match="has a password"):
            look_at(target(port, (certificate, key)))
        key.write_bytes(b"no key")
        with pytest.raises(ValueError, match="PEM"):
            look_at(target(port, (certificate, key)))
