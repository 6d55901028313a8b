"""One handshake that failed: from Envoy's access log entry to a line of the log."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from isthmus.handshake.back_off import network_of
from isthmus.model.handshake import CLIENT_GONE, Network, Reason, reason_of

SERIAL, FINGERPRINT, SANS, DETAILS = "serial", "fingerprint", "sans", "details"
"""Custom tags of the entry: what its own fields do not have (``isthmus.xds.handshake`` asks for them)."""
_LONGEST_TEXT = 512
_MOST_NAMES = 20
_BURST = 20
_A_SECOND = 1.0
_MOST_ADDRESSES = 4096


@dataclass(frozen=True, slots=True)
class Failure:
    """``sans``, ``subject``, ``issuer``, ``serial``, ``fingerprint``: of the certificate that was shown, if any.

    What the client wrote (``sni`` and the certificate's names) is as it wrote it: JSON makes it harmless, nobody
    vouches for it.
    """

    time: datetime
    proxy: str
    listener: str
    reason: Reason
    peer_address: str
    peer_port: int
    sni: str
    tls_version: str
    sans: tuple[str, ...]
    subject: str
    issuer: str
    serial: str
    fingerprint: str
    duration_ms: float
    text: str
    """Envoy's own words."""

    @property
    def held_against(self) -> bool:
        """Whether it counts against the address. Who began TLS and went without a word has had our signature for it."""
        return self.reason.held_against or (self.reason is CLIENT_GONE and bool(self.sni or self.tls_version))

    def line(self, suppressed: int = 0) -> bytes:
        """One line of JSON. ``suppressed``: how many of this address were left out before."""
        told: dict[str, object] = {
            "time": self.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reason": self.reason.code,
            "proxy": self.proxy,
            "listener": self.listener,
            "peer_address": self.peer_address,
            "peer_port": self.peer_port,
            "sni": self.sni or None,
            "tls_version": self.tls_version or None,
            "peer_subject": self.subject or None,
            "peer_sans": list(self.sans),
            "peer_issuer": self.issuer or None,
            "peer_serial": self.serial or None,
            "peer_fingerprint": self.fingerprint or None,
            "duration_ms": round(self.duration_ms, 3),
            "text": self.text or None,
        }
        if suppressed:
            told["suppressed"] = suppressed
        return json.dumps(told).encode() + b"\n"


def failure_of(entry: Any, proxy: str, listener: str) -> Failure:
    """``entry``: an envoy.data.accesslog.v3.TCPAccessLogEntry of a listener. Raises ValueError without an address."""
    about = entry.common_properties
    peer = about.downstream_direct_remote_address.socket_address
    if not peer.address:
        raise ValueError("not of an IP connection")
    tls = about.tls_properties
    shown = tls.peer_certificate_properties
    tags = about.custom_tags
    text = " ".join(
        filter(
            None,
            (
                about.downstream_transport_failure_reason.strip(),
                about.connection_termination_details.strip(),
                _tag(tags, DETAILS).strip(),
            ),
        )
    )
    return Failure(
        time=about.start_time.ToDatetime(UTC),
        proxy=proxy,
        listener=listener,
        reason=reason_of(text),
        peer_address=peer.address,
        peer_port=peer.port_value,
        sni=tls.tls_sni_hostname,
        tls_version=_version(tls),
        sans=tuple(name for name in _tag(tags, SANS).split(",") if name not in ("", "-"))[:_MOST_NAMES],
        subject=shown.subject,
        issuer=shown.issuer,
        serial=_tag(tags, SERIAL),
        fingerprint=_tag(tags, FINGERPRINT),
        duration_ms=about.duration.ToTimedelta().total_seconds() * 1000,
        text=text[:_LONGEST_TEXT],
    )


def _tag(tags: Any, name: str) -> str:
    found: str = tags.get(name, "")
    return "" if found == "-" else found


def _version(tls: Any) -> str:
    name: str = tls.TLSVersion.Name(tls.tls_version)
    return "" if name == "VERSION_UNSPECIFIED" else name


@dataclass(slots=True)
class _Allowance:
    left: float
    at: datetime
    suppressed: int = 0


class Sampler:
    """Which failures get a line: of one address 20 at once and then one a second, so that no client fills the log.

    The metric counts all.
    """

    def __init__(self, burst: int = _BURST, a_second: float = _A_SECOND, most: int = _MOST_ADDRESSES) -> None:
        self._burst = burst
        self._a_second = a_second
        self._most = most
        self._known: OrderedDict[Network, _Allowance] = OrderedDict()

    def take(self, address: str, now: datetime) -> int | None:
        """How many of this address were left out since its last line; None: leave this one out, too."""
        network = network_of(address)
        allowance = self._known.setdefault(network, _Allowance(float(self._burst), now))
        self._known.move_to_end(network)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        passed = (now - allowance.at).total_seconds()
        allowance.left = min(float(self._burst), allowance.left + max(0.0, passed) * self._a_second)
        allowance.at = now
        if allowance.left < 1.0:
            allowance.suppressed += 1
            return None
        allowance.left -= 1.0
        suppressed, allowance.suppressed = allowance.suppressed, 0
        return suppressed
