"""The first words of TLS up to 1.2 (RFC 5246): a ClientHello of our own, and what a server answers in the clear.

Chain, staple and whether a client's certificate is asked for stand there to be read, without any library's opinion.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from cryptography import x509


class Version(IntEnum):
    TLS1_0 = 0x0301
    TLS1_1 = 0x0302
    TLS1_2 = 0x0303
    TLS1_3 = 0x0304

    @property
    def written(self) -> str:
        return f"TLS 1.{self.value - Version.TLS1_0}"


CIPHERS: dict[int, str] = {
    0xC02B: "ECDHE-ECDSA-AES128-GCM-SHA256",
    0xC02F: "ECDHE-RSA-AES128-GCM-SHA256",
    0xC02C: "ECDHE-ECDSA-AES256-GCM-SHA384",
    0xC030: "ECDHE-RSA-AES256-GCM-SHA384",
    0xCCA9: "ECDHE-ECDSA-CHACHA20-POLY1305",
    0xCCA8: "ECDHE-RSA-CHACHA20-POLY1305",
    0x009E: "DHE-RSA-AES128-GCM-SHA256",
    0x009F: "DHE-RSA-AES256-GCM-SHA384",
    0xC023: "ECDHE-ECDSA-AES128-SHA256",
    0xC027: "ECDHE-RSA-AES128-SHA256",
    0xC024: "ECDHE-ECDSA-AES256-SHA384",
    0xC028: "ECDHE-RSA-AES256-SHA384",
    0xC009: "ECDHE-ECDSA-AES128-SHA",
    0xC013: "ECDHE-RSA-AES128-SHA",
    0xC00A: "ECDHE-ECDSA-AES256-SHA",
    0xC014: "ECDHE-RSA-AES256-SHA",
    0x0033: "DHE-RSA-AES128-SHA",
    0x0039: "DHE-RSA-AES256-SHA",
    0x009C: "AES128-GCM-SHA256",
    0x009D: "AES256-GCM-SHA384",
    0x003C: "AES128-SHA256",
    0x003D: "AES256-SHA256",
    0x002F: "AES128-SHA",
    0x0035: "AES256-SHA",
    0x000A: "DES-CBC3-SHA",
    0x0005: "RC4-SHA",
    0x0004: "RC4-MD5",
}
"""Of TLS up to 1.2, by number (IANA), under OpenSSL's names."""
_GROUPS = (0x001D, 0x0017, 0x0018, 0x0019)
_SIGNATURES = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0603, 0x0806, 0x0601, 0x0807, 0x0203, 0x0201)
_HANDSHAKE, _ALERT = 22, 21
_SERVER_HELLO, _CERTIFICATE, _STATUS, _REQUEST, _DONE = 2, 11, 22, 13, 14
_MOST_BYTES = 1 << 20
_KEY = bytes.fromhex("302a300506032b6570032100") + bytes(32)
_SIGNED = bytes.fromhex("300506032b6570034100") + bytes(64)
"""An Ed25519 key and signature of nothing: what a request for a certificate has beside the name."""
ALERTS: dict[int, str] = {
    40: "handshake failure",
    42: "bad certificate",
    43: "unsupported certificate",
    44: "certificate revoked",
    45: "certificate expired",
    46: "certificate unknown",
    47: "illegal parameter",
    48: "unknown CA",
    49: "access denied",
    50: "decode error",
    70: "protocol version",
    71: "insufficient security",
    80: "internal error",
    86: "inappropriate fallback",
    112: "unrecognized name",
    116: "certificate required",
    120: "no application protocol",
}


def is_weak(cipher: str) -> bool:
    """Without forward secrecy, or not authenticated encryption: none that a gateway needs to speak."""
    return not cipher.startswith(("ECDHE", "DHE", "TLS_")) or not ("GCM" in cipher or "POLY1305" in cipher)


@dataclass(frozen=True, slots=True)
class Flight:
    """What a server answers to a ClientHello. ``chain``: DER, in the order sent.

    ``wanted``: the distinguished names of the CAs that a client's certificate may come from (RFC 4514), empty where it
    names none; None: no certificate is asked for. ``alert``: it refused, by this word. All empty: it closed.
    """

    version: int | None = None
    cipher: str = ""
    alpn: str = ""
    chain: tuple[bytes, ...] = ()
    staple: bytes = b""
    wanted: tuple[str, ...] | None = None
    alert: str = ""
    whole: bool = False
    """The server said that it is done."""
    not_tls: bytes = b""
    """What it said instead of TLS."""
    silent: bool = False
    """It said nothing, and did not close either."""


def client_hello(version: Version, name: str | None, random: bytes, ciphers: Sequence[int] = tuple(CIPHERS)) -> bytes:
    """``version``: up to TLS 1.2. ``random``: 32 bytes."""
    extensions = b"".join(_extensions(version, name))
    body = struct.pack("!H", version) + random + b"\0"
    # The signal of secure renegotiation (RFC 5746), without which some servers do not talk at all.
    suites = b"".join(struct.pack("!H", one) for one in (*ciphers, 0x00FF))
    body += struct.pack("!H", len(suites)) + suites + b"\1\0" + struct.pack("!H", len(extensions)) + extensions
    message = b"\1" + len(body).to_bytes(3) + body
    return struct.pack("!BHH", _HANDSHAKE, Version.TLS1_0, len(message)) + message


def _extensions(version: Version, name: str | None) -> Iterator[bytes]:
    def extension(number: int, data: bytes) -> bytes:
        return struct.pack("!HH", number, len(data)) + data

    def listed(data: bytes) -> bytes:
        return struct.pack("!H", len(data)) + data

    if name is not None:
        yield extension(0, listed(b"\0" + listed(name.encode("idna"))))
    yield extension(5, b"\1\0\0\0\0")
    yield extension(10, listed(b"".join(struct.pack("!H", group) for group in _GROUPS)))
    yield extension(11, b"\1\0")
    if version is Version.TLS1_2:
        yield extension(13, listed(b"".join(struct.pack("!H", one) for one in _SIGNATURES)))
    yield extension(16, listed(b"".join(bytes([len(one)]) + one for one in (b"h2", b"http/1.1"))))
    yield extension(23, b"")


def read_flight(data: bytes) -> Flight:
    """As much as ``data`` has of a server's answer; raises nothing, whatever the server sent."""
    if data and data[0] not in (_HANDSHAKE, _ALERT):
        return Flight(not_tls=data[:64])
    found = Flight()
    try:
        messages, alert = _records(data)
        if alert:
            return Flight(alert=alert)
        for kind, body in _messages(messages):
            found = _with(found, kind, body)
    except (IndexError, struct.error, ValueError):
        pass
    return found


def is_over(data: bytes) -> bool:
    """Whether a server that has sent ``data`` waits for its client, or has refused."""
    found = read_flight(data)
    return found.whole or bool(found.alert or found.not_tls) or len(data) > _MOST_BYTES


def _records(data: bytes) -> tuple[bytes, str]:
    messages = b""
    while len(data) >= 5:
        kind, _, length = struct.unpack("!BHH", data[:5])
        if len(data) < 5 + length:
            break
        if kind == _ALERT and length == 2:
            return messages, ALERTS.get(data[6], f"alert {data[6]}")
        if kind == _HANDSHAKE:
            messages += data[5 : 5 + length]
        data = data[5 + length :]
    return messages, ""


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length = int.from_bytes(data[1:4])
        if len(data) < 4 + length:
            return
        yield data[0], data[4 : 4 + length]
        data = data[4 + length :]


def _with(found: Flight, kind: int, body: bytes) -> Flight:
    if kind == _SERVER_HELLO:
        return _server_hello(found, body)
    if kind == _CERTIFICATE:
        return replace(found, chain=tuple(_vectors(body[3:], 3)))
    if kind == _STATUS:
        return replace(found, staple=body[4:])
    if kind == _REQUEST:
        return replace(found, wanted=_wanted(body, found.version))
    return replace(found, whole=True) if kind == _DONE else found


def _server_hello(found: Flight, body: bytes) -> Flight:
    (version,) = struct.unpack_from("!H", body)
    after = 35 + body[34]
    (cipher,) = struct.unpack_from("!H", body, after)
    alpn = ""
    at = after + 5
    while at + 4 <= len(body):
        number, length = struct.unpack_from("!HH", body, at)
        if number == 16:
            alpn = body[at + 7 : at + 7 + body[at + 6]].decode("ascii", "replace")
        at += 4 + length
    return replace(found, version=version, cipher=CIPHERS.get(cipher, f"0x{cipher:04X}"), alpn=alpn)


def _wanted(body: bytes, version: int | None) -> tuple[str, ...]:
    """Of a CertificateRequest: kinds of certificates, then (in TLS 1.2) signatures, then the names."""
    rest = body[1 + body[0] :]
    if version == Version.TLS1_2:
        (length,) = struct.unpack_from("!H", rest)
        rest = rest[2 + length :]
    return tuple(_name(der) for der in _vectors(rest[2:], 2))


def _name(der: bytes) -> str:
    """RFC 4514, as ``cryptography`` writes the names of certificates; it reads a name only within something else."""
    inner = b"\x02\x01\x00" + der + _KEY + b"\xa0\x00"
    request = _sequence(_sequence(inner) + _SIGNED)
    return x509.load_der_x509_csr(request).subject.rfc4514_string()


def _sequence(content: bytes) -> bytes:
    length = len(content)
    size = length.to_bytes((length.bit_length() + 7) // 8 or 1)
    return b"\x30" + (size if length < 128 else bytes([0x80 | len(size)]) + size) + content


def _vectors(data: bytes, width: int) -> Iterator[bytes]:
    while len(data) >= width:
        length = int.from_bytes(data[:width])
        if len(data) < width + length:
            raise ValueError("cut off")
        yield data[width : width + length]
        data = data[width + length :]
