from __future__ import annotations

import contextlib
import ssl
import warnings
from pathlib import Path

import pytest
from cryptography import x509

from isthmus.doctor.hello import CIPHERS, Flight, Version, client_hello, is_over, is_weak, read_flight
from tests.real.pki import Authority

ROOT = Authority("root")
RANDOM = bytes(range(32))


def server(folder: Path, *, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ROOT.intermediate("between").issue("a.example.com").written(folder, "server"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    if mutual:
        context.load_verify_locations(cadata=ROOT.pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def answer(context: ssl.SSLContext, hello: bytes) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(hello)
    with contextlib.suppress(ssl.SSLError):
        context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    return outgoing.read()


def test_what_a_server_answers(tmp_path: Path) -> None:
    data = answer(server(tmp_path, mutual=True), client_hello(Version.TLS1_2, "a.example.com", RANDOM))
    found = read_flight(data)
    assert is_over(data)
    assert (found.version, found.alpn, found.wanted) == (Version.TLS1_2, "h2", ()), "Python names none of its CAs"
    assert found.cipher in CIPHERS.values()
    names = [x509.load_der_x509_certificate(one).subject.rfc4514_string() for one in found.chain]
    assert names == ["CN=leaf", "CN=between"]
    assert read_flight(answer(server(tmp_path), client_hello(Version.TLS1_2, None, RANDOM))).wanted is None


@pytest.mark.parametrize("version", [Version.TLS1_0, Version.TLS1_1, Version.TLS1_2])
def test_versions(tmp_path: Path, version: Version) -> None:
    assert read_flight(answer(server(tmp_path), client_hello(version, None, RANDOM))).version == version


def test_a_refusal(tmp_path: Path) -> None:
    context = server(tmp_path)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    data = answer(context, client_hello(Version.TLS1_1, None, RANDOM))
    assert read_flight(data) == Flight(alert="protocol version")
    assert is_over(data)


def test_the_cas_that_a_server_names() -> None:
    der = ROOT.subject.public_bytes()
    names = (len(der).to_bytes(2) + der) * 2
    body = b"\1\x40" + b"\0\2\4\3" + len(names).to_bytes(2) + names
    hello = b"\2\0\0\x26\3\3" + bytes(32) + b"\0\xc0\x2b\0"
    messages = hello + b"\x0d" + len(body).to_bytes(3) + body
    found = read_flight(b"\x16\3\3" + len(messages).to_bytes(2) + messages)
    assert (found.cipher, found.wanted) == ("ECDHE-ECDSA-AES128-GCM-SHA256", ("CN=root", "CN=root"))


def test_one_cipher(tmp_path: Path) -> None:
    number = next(number for number, name in CIPHERS.items() if name == "ECDHE-ECDSA-AES256-GCM-SHA384")
    found = read_flight(answer(server(tmp_path), client_hello(Version.TLS1_2, None, RANDOM, (number,))))
    assert found.cipher == "ECDHE-ECDSA-AES256-GCM-SHA384"


def test_what_is_no_tls() -> None:
    assert read_flight(b"HTTP/1.1 400 Bad Request\r\n").not_tls.startswith(b"HTTP/1.1 400")
    assert is_over(b"SSH-2.0-x")
    assert not is_over(b"")
    assert read_flight(b"") == Flight()


def test_an_answer_that_is_cut_off_or_damaged_anywhere(tmp_path: Path) -> None:
    data = answer(server(tmp_path, mutual=True), client_hello(Version.TLS1_2, "a.example.com", RANDOM))
    for end in range(len(data)):
        assert not read_flight(data[:end]).whole
    for at in range(len(data)):
        read_flight(data[:at] + b"\xff" + data[at + 1 :])


def test_weak_suites() -> None:
    weak = {name for name in CIPHERS.values() if is_weak(name)}
    assert {"AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "DES-CBC3-SHA"} <= weak
    assert not weak & {"ECDHE-ECDSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"}
