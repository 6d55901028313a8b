"""From what was observed to what is wrong, and how to mend it. A pure function, one check after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.doctor.hello import Version, is_weak
from isthmus.doctor.observed import Answer, Observed, Own

_CLOCK = timedelta(seconds=60)


class Level(Enum):
    GOOD = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """``mend``: what to do; empty where nothing is wrong."""

    level: Level
    check: str
    text: str
    mend: str = ""


def judge(seen: Observed, now: datetime) -> tuple[Finding, ...]:
    """Everything there is to say, in the order in which a handshake comes to it."""
    if seen.unreachable:
        mend = "see that the address and the port are right, that something listens there, and no firewall is between"
        return (Finding(Level.WRONG, "connection", seen.unreachable, mend),)
    if seen.silent:
        mend = "ask for the port with TLS; a server of another protocol, or one that hangs, waits for more"
        return (Finding(Level.WRONG, "tls", f"{seen.host}:{seen.port} takes connections, and then says nothing", mend),)
    if seen.not_tls:
        mend = "ask for the port with TLS; or something in between ends TLS and speaks plaintext from there on"
        return (Finding(Level.WRONG, "tls", f"the server does not speak TLS: {seen.not_tls}", mend),)
    checks = (_versions, _ciphers, _chain, _dates, _name, _trust, _staple, _clock, _alpn, _demand, _own, _between)
    return tuple(finding for check in checks for finding in check(seen, now))


def wrong(findings: tuple[Finding, ...]) -> bool:
    return any(finding.level is Level.WRONG for finding in findings)


def _versions(seen: Observed, _: datetime) -> Iterator[Finding]:
    answers = seen.versions or {}
    spoken = [version for version, answer in answers.items() if answer is Answer.SPOKEN]
    for version in (version for version, answer in answers.items() if answer is Answer.NOT_TESTED):
        yield Finding(Level.NOTE, "version", f"{version.written}: not tested, this machine cannot speak it")
    names = ", ".join(version.written for version in sorted(spoken))
    old = [version for version in spoken if version < Version.TLS1_2]
    if old:
        mend = "set minProtocolVersion to TLSV1_2 (a gateway of Isthmus has that from the start)"
        yield Finding(Level.WRONG, "version", f"it speaks {names}: TLS 1.0 and 1.1 are broken", mend)
    elif spoken:
        yield Finding(Level.GOOD, "version", f"it speaks {names}, and nothing older")
    else:
        mend = "compare versions and ciphers of both sides; a server without a certificate refuses all of them, too"
        if seen.name == seen.host:
            mend += "; if it goes by server names, ask for one that it has (--sni)"
        yield Finding(Level.WRONG, "version", f"no version of TLS came about ({seen.bare.error or 'closed'})", mend)


def _ciphers(seen: Observed, _: datetime) -> Iterator[Finding]:
    weak = [cipher for cipher in seen.ciphers if is_weak(cipher)]
    if seen.bare.cipher:
        yield Finding(Level.GOOD, "cipher", f"{seen.bare.version} with {seen.bare.cipher}")
    if weak:
        mend = "set cipherSuites to ECDHE suites with GCM or CHACHA20 alone"
        yield Finding(Level.WRONG, "cipher", f"in TLS 1.2 it takes weak suites: {', '.join(weak)}", mend)
    elif seen.ciphers:
        yield Finding(Level.GOOD, "cipher", f"in TLS 1.2 it takes {', '.join(seen.ciphers)}")


def _chain(seen: Observed, _: datetime) -> Iterator[Finding]:
    if not seen.chain:
        yield Finding(Level.NOTE, "chain", "the server's chain could not be read")
        return
    names = " ← ".join(_subject(one) for one in seen.chain)
    for child, parent in zip(seen.chain, seen.chain[1:], strict=False):
        if not _issued(child, parent):
            mend = "put the leaf first, then each certificate that signed the one before it; leave out strangers"
            text = f"the chain is in the wrong order: {_subject(parent)} has not signed {_subject(child)} ({names})"
            yield Finding(Level.WRONG, "chain", text, mend)
            return
    if _is_ca(seen.chain[0]):
        mend = "use a certificate for the server, with CA:FALSE; a CA's own is for signing"
        yield Finding(Level.WRONG, "chain", f"the server shows a CA's certificate as its own: {names}", mend)
        return
    last = seen.chain[-1]
    if len(seen.chain) > 1 and last.issuer == last.subject:
        yield Finding(Level.NOTE, "chain", f"in order, with the root, which nobody needs to be sent: {names}")
    else:
        yield Finding(Level.GOOD, "chain", f"in order: {names}")


def _dates(seen: Observed, now: datetime) -> Iterator[Finding]:
    for one in seen.chain:
        yield from _window(one, now, "validity", f"the server's {_subject(one)}")


def _window(one: x509.Certificate, now: datetime, check: str, whose: str) -> Iterator[Finding]:
    begins, ends = one.not_valid_before_utc, one.not_valid_after_utc
    if now < begins:
        mend = "compare the clocks of this machine and of the issuer (`date -u`): one of them is wrong"
        yield Finding(Level.WRONG, check, f"{whose} begins only at {_at(begins)}; here it is {_at(now)}", mend)
    elif now > ends:
        mend = "renew it; if it should not have ended yet, compare the clocks"
        yield Finding(Level.WRONG, check, f"{whose} ended at {_at(ends)}; here it is {_at(now)}", mend)
    elif ends - now < (ends - begins) / 6:
        yield Finding(Level.NOTE, check, f"{whose} ends soon, at {_at(ends)}")
    else:
        yield Finding(Level.GOOD, check, f"{whose} is valid until {_at(ends)}")


def _name(seen: Observed, _: datetime) -> Iterator[Finding]:
    if not seen.chain:
        return
    names = _names(seen.chain[0])
    if not names:
        mend = "issue it with subject alternative names: the common name counts for nothing"
        yield Finding(Level.WRONG, "name", "the server's certificate has no name (SAN) at all", mend)
    elif any(_fits(name, seen.name) for name in names):
        yield Finding(Level.GOOD, "name", f"the certificate is for {seen.name}")
    elif all(name.startswith("spiffe://") for name in names):
        text = f"the certificate is a SPIFFE identity of the mesh ({', '.join(names)}), not for a host"
        yield Finding(
            Level.NOTE, "name", text, "callers of the mesh check the identity; others need another certificate"
        )
    else:
        mend = "ask by one of these names (--sni), or issue a certificate that has the other"
        yield Finding(Level.WRONG, "name", f"the certificate is for {', '.join(names)}, not for {seen.name}", mend)


def _trust(seen: Observed, _: datetime) -> Iterator[Finding]:
    if not seen.chain:
        return
    if not seen.trust:
        yield Finding(Level.GOOD, "trust", f"the chain leads to a root that is believed ({seen.trusted_by})")
        return
    last = seen.chain[-1]
    if last.issuer == last.subject:
        mend = "give clients this root (--ca FILE here; `isthmus ca root` prints the mesh's)"
    else:
        mend = f"give clients the root above {_subject(last)}, or have the server send what is missing before it"
    missing = f"signed by {_written(last.issuer)}"
    text = f"the chain is not believed by {seen.trusted_by}: {seen.trust} (its last is {missing})"
    yield Finding(Level.WRONG, "trust", text, mend)


def _staple(seen: Observed, _: datetime) -> Iterator[Finding]:
    if seen.stapled:
        yield Finding(Level.GOOD, "staple", "an OCSP answer is stapled")
    elif seen.staple_seen:
        yield Finding(
            Level.NOTE, "staple", "no OCSP answer is stapled: clients that want one ask the issuer themselves"
        )


def _clock(seen: Observed, _: datetime) -> Iterator[Finding]:
    off = (
        seen.bare.server_time_off if seen.own is None else seen.own.attempt.server_time_off or seen.bare.server_time_off
    )
    if off is None:
        yield Finding(Level.NOTE, "clock", "the server told no time that could be compared")
    elif abs(off) > _CLOCK:
        ahead = "ahead of" if off > timedelta() else "behind"
        mend = "set the clocks by NTP: certificates are valid or not by the clock of whoever looks"
        text = f"the server's clock is {abs(off).total_seconds():.0f} s {ahead} this machine's"
        yield Finding(Level.WRONG, "clock", text, mend)
    else:
        yield Finding(Level.GOOD, "clock", "the clocks agree")


def _alpn(seen: Observed, _: datetime) -> Iterator[Finding]:
    attempt = seen.own.attempt if seen.own is not None else seen.bare
    if attempt.version and not attempt.alpn:
        text = "no protocol was agreed on (ALPN): HTTP/2 is not offered, or something in between ends TLS"
        yield Finding(Level.NOTE, "alpn", text)
    elif attempt.alpn:
        yield Finding(Level.GOOD, "alpn", f"{attempt.alpn} was agreed on")


def _demand(seen: Observed, _: datetime) -> Iterator[Finding]:
    refused = bool(seen.bare.error)
    named = "; ".join(seen.wanted or ())
    of = f" of: {named}" if named else ""
    if refused and (seen.wanted is not None or "certificate required" in seen.bare.error):
        level = Level.NOTE if seen.own is not None else Level.WRONG
        mend = (
            "" if seen.own is not None else "show one (--cert, --key); a proxy or load balancer in between removes it"
        )
        yield Finding(level, "client certificate", f"the server demands a client's certificate{of}", mend)
    elif seen.wanted is not None:
        yield Finding(Level.GOOD, "client certificate", f"one may be shown{of}; without it requests are answered")
    elif refused and seen.bare.version:
        mend = "look at the gateway's log/handshakes.log: it says why"
        text = f"the handshake was done, and then refused: {seen.bare.error}"
        yield Finding(Level.WRONG, "client certificate", text, mend)
    elif not refused:
        text = "none is asked for" if seen.own is None else "none is asked for: the one given is never shown"
        mend = "the server has mode SIMPLE; or something in between ends TLS and asks nobody" if seen.own else ""
        yield Finding(Level.WRONG if seen.own else Level.GOOD, "client certificate", text, mend)


def _own(seen: Observed, now: datetime) -> Iterator[Finding]:
    if seen.own is None:
        return
    own = seen.own
    check = "own certificate"
    yield from _window(own.certificate, now, check, "yours")
    yield from _purpose(own)
    if not own.key_fits:
        yield Finding(
            Level.WRONG, check, "the key is not that of the certificate", "give the pair that belongs together"
        )
        return
    issuer = own.certificate.issuer.rfc4514_string()
    if seen.wanted and issuer not in seen.wanted and own.attempt.error:
        mend = (
            "get one of a CA that the server names, or add yours to the server's; send intermediates (--cert with all)"
        )
        yield Finding(Level.WRONG, check, f"its issuer ({issuer}) is not among the CAs that the server names", mend)
    if own.attempt.error:
        mend = "the server's log has the reason: log/handshakes.log of a gateway of Isthmus"
        yield Finding(Level.WRONG, check, f"the server refused it: {own.attempt.error}", mend)
    elif seen.wanted is not None or seen.bare.error:
        yield Finding(Level.GOOD, check, f"accepted: {', '.join(_names(own.certificate)) or _subject(own.certificate)}")


def _purpose(own: Own) -> Iterator[Finding]:
    if _is_ca(own.certificate):
        mend = "issue a leaf (CA:FALSE) from it"
        yield Finding(Level.WRONG, "own certificate", "yours is a CA's certificate, not a client's", mend)
    try:
        purposes = own.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        mend = "issue it with the extended key usage clientAuth"
        yield Finding(Level.WRONG, "own certificate", "yours is not for clients (extended key usage)", mend)


def _between(seen: Observed, _: datetime) -> Iterator[Finding]:
    if seen.stranger:
        mend = (
            "look at what stands between: a load balancer or a proxy that ends TLS sees no client's certificate through"
        )
        text = "no gateway of this state has the certificate that was shown: something in between answers"
        yield Finding(Level.WRONG, "in between", text, mend)


def _issued(child: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_ca(one: x509.Certificate) -> bool:
    try:
        return one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _subject(one: x509.Certificate) -> str:
    return _written(one.subject) or ", ".join(_names(one)) or "(no name)"


def _written(name: x509.Name) -> str:
    """RFC 4514, with a word for what our own authorities have in their names."""
    return name.rfc4514_string({NameOID.SERIAL_NUMBER: "serialNumber"})


def _names(one: x509.Certificate) -> tuple[str, ...]:
    try:
        found = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found)


def _fits(pattern: str, name: str) -> bool:
    """RFC 6125: a star stands for the whole of the first label, and for one."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:] and bool(name.partition(".")[0])
    return pattern == name


def _at(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")
