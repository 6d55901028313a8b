"""Asks a server for everything that :mod:`isthmus.doctor.observed` has: some twenty short connections."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from isthmus.doctor.hello import CIPHERS, Flight, Version, client_hello, is_over, read_flight
from isthmus.doctor.observed import Answer, Attempt, Observed, Own

_MOST_CIPHERS = 20
_SILENCE = "closed without a word"
_KNOWN = {version: getattr(ssl.TLSVersion, f"TLSv1_{version - Version.TLS1_0}", None) for version in Version}


@dataclass(frozen=True, slots=True)
class Target:
    """``name``: the server name to ask for, an IP address stays unsaid. ``roots``: PEM; empty: the system's.

    ``own``: PEM files of the client's certificate (with its chain) and key.
    """

    host: str
    port: int
    name: str
    roots: str = ""
    trusted_by: str = "the system's roots"
    own: tuple[Path, Path] | None = None
    serials: frozenset[int] | None = None
    """Of all certificates that the gateways of a state show; None: no state was named."""
    patience: timedelta = timedelta(seconds=5)
    """For each step of each of the connections."""


def look_at(target: Target) -> Observed:
    """Raises OSError or ValueError only for the client's own files."""
    try:
        flight = _flight(target, Version.TLS1_2)
    except OSError as failed:
        reason = f"{target.host}:{target.port}: {failed.strerror or failed}"
        return Observed(target.host, target.port, target.name, unreachable=reason)
    if flight.silent:
        return Observed(target.host, target.port, target.name, silent=True)
    if flight.not_tls:
        said = flight.not_tls.split(b"\r\n")[0].decode("ascii", "replace")
        return Observed(target.host, target.port, target.name, not_tls=f"it says {said!r}")
    ders = flight.chain or _chain_of_tls13(target)
    chain = tuple(x509.load_der_x509_certificate(one) for one in ders)
    stranger = bool(chain) and target.serials is not None and chain[0].serial_number not in target.serials
    return Observed(
        host=target.host,
        port=target.port,
        name=target.name,
        versions={version: _answer(target, version, flight) for version in Version},
        ciphers=_ciphers(target, flight),
        chain=chain,
        stapled=bool(flight.staple),
        staple_seen=flight.whole,
        wanted=flight.wanted,
        bare=_attempt(target, _context(None)),
        trust=_trust(target),
        trusted_by=target.trusted_by,
        own=_own(target),
        stranger=stranger,
    )


def _connect(target: Target) -> socket.socket:
    return socket.create_connection((target.host, target.port), target.patience.total_seconds())


def _server_name(target: Target) -> str | None:
    with contextlib.suppress(OSError):
        family = socket.AF_INET6 if ":" in target.name else socket.AF_INET
        socket.inet_pton(family, target.name)
        return None
    return target.name


def _flight(target: Target, version: Version, ciphers: Sequence[int] = tuple(CIPHERS)) -> Flight:
    """Raises OSError if there is no connection; a server that closes has said nothing."""
    with _connect(target) as plain:
        data = b""
        try:
            plain.sendall(client_hello(version, _server_name(target), os.urandom(32), ciphers))
            while not is_over(data):
                more = plain.recv(65536)
                if not more:
                    break
                data += more
        except TimeoutError:
            return read_flight(data) if data else Flight(silent=True)
        except OSError:
            pass
        return read_flight(data)


def _answer(target: Target, version: Version, flight: Flight) -> Answer:
    if version is Version.TLS1_2:
        return Answer.SPOKEN if flight.version == version else Answer.REFUSED
    if version is Version.TLS1_3:
        return _answer_by_library(target, version)
    try:
        return Answer.SPOKEN if _flight(target, version).version == version else Answer.REFUSED
    except OSError:
        return Answer.NOT_TESTED


def _answer_by_library(target: Target, version: Version) -> Answer:
    wanted = _KNOWN[version]
    if wanted is None:
        return Answer.NOT_TESTED
    context = _context(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = wanted
    try:
        with _connect(target) as plain, context.wrap_socket(plain, server_hostname=_server_name(target)):
            return Answer.SPOKEN
    except OSError:
        return Answer.REFUSED


def _ciphers(target: Target, flight: Flight) -> tuple[str, ...]:
    """Ask again without what was chosen, until nothing is."""
    found: list[str] = []
    left = dict(CIPHERS)
    while flight.cipher in left.values() and len(found) < _MOST_CIPHERS:
        found.append(flight.cipher)
        left = {number: name for number, name in left.items() if name != flight.cipher}
        try:
            flight = _flight(target, Version.TLS1_2, tuple(left))
        except OSError:
            break
    return tuple(found)


def _context(own: tuple[Path, Path] | None, *protocols: str) -> ssl.SSLContext:
    """Believes everything: what is to be believed is judged apart."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([*protocols] or ["h2", "http/1.1"])
    if own is not None:
        context.load_cert_chain(*own)
    return context


def _attempt(target: Target, context: ssl.SSLContext) -> Attempt:
    """A handshake, and a request: in TLS 1.3 a certificate is refused after the client's handshake is done."""
    version = cipher = alpn = ""
    try:
        with _connect(target) as plain, context.wrap_socket(plain, server_hostname=_server_name(target)) as secured:
            version = (secured.version() or "").replace("TLSv", "TLS ")
            cipher, alpn = (secured.cipher() or ("",))[0], secured.selected_alpn_protocol() or ""
        context.set_alpn_protocols(["http/1.1"])
        answer = _request(target, context)
        error = "" if answer else _SILENCE
    except OSError as failed:
        answer, error = b"", _words(failed)
    if error == _SILENCE:
        error = _refusal(target, context)
    return Attempt(error, version, cipher, alpn, _time_off(answer))


def _refusal(target: Target, context: ssl.SSLContext) -> str:
    """Why a server closes, asked without a request: one that it did not read takes its last word with it."""
    try:
        with _connect(target) as plain, context.wrap_socket(plain, server_hostname=_server_name(target)) as secured:
            secured.recv(1)
    except OSError as failed:
        return _words(failed)
    return _SILENCE


def _request(target: Target, context: ssl.SSLContext) -> bytes:
    with _connect(target) as plain, context.wrap_socket(plain, server_hostname=_server_name(target)) as secured:
        head = f"HEAD / HTTP/1.1\r\nhost: {target.name}\r\nuser-agent: isthmus-doctor\r\nconnection: close\r\n\r\n"
        secured.sendall(head.encode())
        answer = b""
        while b"\r\n\r\n" not in answer and len(answer) < 65536:
            try:
                more = secured.recv(4096)
            except TimeoutError:
                # A server of another protocol waits for more: it has not refused.
                return answer or b"?"
            if not more:
                break
            answer += more
        return answer


def _time_off(answer: bytes) -> timedelta | None:
    for line in answer.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"date":
            with contextlib.suppress(ValueError, TypeError):
                return parsedate_to_datetime(value.strip().decode("ascii", "replace")) - datetime.now(UTC)
    return None


def _words(failed: OSError) -> str:
    """``unknown ca`` of ``[SSL: TLSV1_ALERT_UNKNOWN_CA] ...``."""
    if isinstance(failed, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
        return _SILENCE
    reason = failed.reason if isinstance(failed, ssl.SSLError) else None
    if reason and "_ALERT_" in reason:
        return reason.partition("_ALERT_")[2].replace("_", " ").lower()
    return (reason or failed.strerror or str(failed)).replace("_", " ").lower()


def _trust(target: Target) -> str:
    """Why the chain is not believed, in the library's words."""
    context = ssl.create_default_context(cadata=target.roots) if target.roots else ssl.create_default_context()
    context.check_hostname = False
    try:
        with _connect(target) as plain, context.wrap_socket(plain, server_hostname=_server_name(target)):
            return ""
    except ssl.SSLCertVerificationError as failed:
        return str(failed.verify_message)
    except OSError:
        # Refused for something else: what could be believed was.
        return ""


def _chain_of_tls13(target: Target) -> tuple[bytes, ...]:
    """Of a server that does not speak TLS 1.2, where it would stand in the clear."""
    try:
        with (
            _connect(target) as plain,
            _context(None).wrap_socket(plain, server_hostname=_server_name(target)) as secured,
        ):
            # Public only from Python 3.13 on.
            inner: Any = getattr(secured, "_sslobj", None)
            found = inner.get_unverified_chain() if hasattr(inner, "get_unverified_chain") else None
            if found:
                return tuple(ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in found)
            leaf = secured.getpeercert(binary_form=True)
            return (leaf,) if leaf else ()
    except OSError:
        return ()


def _own(target: Target) -> Own | None:
    if target.own is None:
        return None
    certificate_file, key_file = target.own
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    try:
        key = load_pem_private_key(key_file.read_bytes(), None)
    except TypeError:
        raise ValueError(f"{key_file} has a password: write the key out without (openssl pkey)") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certificate.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        return Own(certificate, False, Attempt("it was not tried"))
    return Own(certificate, True, _attempt(target, _context(target.own)))


def versions_of(observed: Observed) -> Mapping[str, str]:
    """For programs: by the version's name, ``spoken``, ``refused`` or ``not tested``."""
    return {version.written: answer.value for version, answer in (observed.versions or {}).items()}
