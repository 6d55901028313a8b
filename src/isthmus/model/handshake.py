"""Why a TLS handshake fails: stable codes, the words of Envoy and BoringSSL that mean them, and what helps.

Proven on Envoy 1.39.3, case by case, by tests/real/test_failed_handshakes.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network


@dataclass(frozen=True, slots=True)
class Reason:
    """``words``: parts of Envoy's text, any of which means this. ``held_against``: repeated, it is the client's fault.

    What a client that only looks whether the port is open leaves behind is not, nor what is our own fault.
    """

    code: str
    words: tuple[str, ...]
    about: str
    mend: str
    held_against: bool = True


NO_CLIENT_CERTIFICATE = Reason(
    "tls-no-client-certificate",
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE",),
    "the client showed no certificate, and the listener demands one",
    "give the client a certificate and key, or look for what ends TLS between it and here",
)
SAN_MISMATCH = Reason(
    "tls-san-mismatch",
    ("SAN_matcher", "SAN_match"),
    "the certificate is good, and none of its names is one that may connect",
    "compare its SANs (`sans` of the line) with subjectAltNames, or with the trust domains of the mesh",
)
EXPIRED = Reason(
    "tls-certificate-expired",
    ("certificate_has_expired",),
    "the client's certificate, or one of its chain, has ended",
    "renew it; if it has not ended, the clocks differ",
)
NOT_YET_VALID = Reason(
    "tls-certificate-not-yet-valid",
    ("certificate_is_not_yet_valid",),
    "the client's certificate begins in the future",
    "set the clocks: its issuer's is ahead of this machine's, or this one is behind",
)
REVOKED = Reason(
    "tls-revoked",
    ("certificate_revoked",),
    "the certificate is in a revocation list",
    "issue a new one; the old one is not to be used any more",
)
REVOCATION_UNKNOWN = Reason(
    "tls-revocation-unknown",
    ("CRL_has_expired", "unable_to_get_certificate_CRL", "CRL_is_not_yet_valid", "CRL_signature_failure"),
    "no revocation list that is in force tells of the certificate: it is refused",
    "renew the list of its issuer: one whose next update has passed refuses everybody",
    held_against=False,
)
WRONG_PURPOSE = Reason(
    "tls-wrong-purpose",
    ("unsupported_certificate_purpose", "KEY_USAGE_BIT_INCORRECT", "invalid_CA_certificate", "path_length"),
    "the certificate is not for clients",
    "issue one with the extended key usage clientAuth and the key usage digitalSignature",
)
PIN_MISMATCH = Reason(
    "tls-pin-mismatch",
    ("cert_hash_and_spki",),
    "neither the certificate nor its key is one of those that are pinned",
    "add the new certificate's hash before it is used",
)
UNKNOWN_CA = Reason(
    "tls-unknown-ca",
    (
        "unable_to_get_local_issuer_certificate",
        "unable_to_get_issuer_certificate",
        "unable_to_verify_the_first_certificate",
        "self_signed_certificate",
        "self-signed_certificate",
        "certificate_signature_failure",
        "certificate_not_trusted",
        "no_trust_bundle_store",
    ),
    "no CA that is trusted here has signed the certificate, or an intermediate is missing",
    "have the client send its intermediates, or add its CA to the listener's",
)
CERTIFICATE_REFUSED = Reason(
    "tls-certificate-refused",
    ("CERTIFICATE_VERIFY_FAILED", "DECODE_ERROR:bad_certificate"),
    "the client's certificate was refused for another reason, which `text` has",
    "look at `text`",
)
NOT_TLS = Reason(
    "tls-not-tls",
    ("HTTP_REQUEST", "WRONG_VERSION_NUMBER"),
    "what came is no TLS: plaintext HTTP, or another protocol",
    "use https:// and the right port; something in between may have ended TLS already",
)
PROTOCOL_VERSION = Reason(
    "tls-protocol-version",
    ("UNSUPPORTED_PROTOCOL", "INAPPROPRIATE_FALLBACK"),
    "the client does not speak a TLS version that is allowed here",
    "upgrade the client: TLS 1.2 and 1.3 are spoken",
)
NO_SHARED_CIPHER = Reason(
    "tls-no-shared-cipher",
    ("NO_SHARED_CIPHER", "NO_SHARED_GROUP", "NO_COMMON_SIGNATURE_ALGORITHMS", "WRONG_CURVE"),
    "client and listener have no cipher suite, curve or signature in common",
    "compare both lists; a certificate with an RSA key does not serve ECDSA suites, nor the other way round",
)
MALFORMED = Reason(
    "tls-malformed",
    ("CLIENTHELLO_PARSE_FAILED", "DECODE_ERROR", "UNEXPECTED_MESSAGE", "UNEXPECTED_RECORD", "EXCESSIVE_MESSAGE_SIZE"),
    "what came looks like TLS and cannot be read",
    "a scanner, or something in between that damages what it passes on",
)
CLIENT_REJECTED_US = Reason(
    "tls-client-rejected-us",
    ("_ALERT_", "BAD_PACKET_LENGTH"),
    "the client refused our certificate, or gave up for another reason of its own",
    "give the client the CA of our certificate, and ask it by a name that the certificate has",
)
TIMEOUT = Reason(
    "tls-timeout",
    ("transport_socket_timeout",),
    "the client began a handshake and did not end it in time",
    "a slow or broken network, or a client that holds connections open on purpose",
)
AMBIGUOUS_PEER = Reason(
    "tls-ambiguous-peer",
    ("isthmus-ambiguous-peer",),
    "the client's certificate has more than one URI SAN: it is nobody's in particular, and was closed",
    "issue one with exactly one URI SAN (SPIFFE X509-SVID, section 2)",
)
CA_PEER = Reason(
    "tls-ca-certificate",
    ("isthmus-ca-peer",),
    "the client's certificate is a CA's (basicConstraints cA TRUE), and was closed before any answer",
    "issue a leaf for the client; a CA's key is to sign with, not to connect with",
)
NO_CERTIFICATE_YET = Reason(
    "tls-no-certificate-yet",
    ("Secret_is_not_supplied_by_SDS", "CONNECTION_REJECTED"),
    "this listener has no certificate (yet): every connection is refused",
    "look at `isthmus proxies`, and at the log of the agent",
    held_against=False,
)
UNKNOWN_SERVER_NAME = Reason(
    "tls-unknown-server-name",
    ("filter_chain_not_found",),
    "no server of the listener is for the name (SNI) that was asked for, or for none",
    "ask by a host that a Gateway declares",
)
CLIENT_GONE = Reason(
    "tls-client-gone",
    (),
    "the client went away, or said nothing, before the handshake was done",
    "a health check by TCP alone, a network that broke, or a client that refuses us without a word",
    held_against=False,
)

REASONS = (
    # The one text with something of the client's in it comes first: a SAN may say anything.
    SAN_MISMATCH,
    NO_CLIENT_CERTIFICATE,
    EXPIRED,
    NOT_YET_VALID,
    REVOKED,
    REVOCATION_UNKNOWN,
    WRONG_PURPOSE,
    PIN_MISMATCH,
    UNKNOWN_CA,
    CERTIFICATE_REFUSED,
    NOT_TLS,
    PROTOCOL_VERSION,
    NO_SHARED_CIPHER,
    CLIENT_REJECTED_US,
    MALFORMED,
    TIMEOUT,
    AMBIGUOUS_PEER,
    CA_PEER,
    NO_CERTIFICATE_YET,
    UNKNOWN_SERVER_NAME,
    CLIENT_GONE,
)
"""The first whose words are in the text; the last has none, and is what remains."""


def reason_of(text: str) -> Reason:
    """What Envoy's words mean. ``text``: failure reason, termination details and response code details, in any form."""
    underscored = text.replace(" ", "_")
    return next((reason for reason in REASONS if any(word in underscored for word in reason.words)), CLIENT_GONE)


Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class FailedHandshakes:
    """When an address whose handshakes keep failing is shut out, and for how long.

    ``threshold`` failures within ``interval`` shut it out for ``base_ejection``; each time again for twice as long, at
    most ``max_ejection``. ``exempt``: never, whatever comes from there (a load balancer, one's own monitoring).
    """

    threshold: int
    interval: timedelta
    base_ejection: timedelta
    max_ejection: timedelta
    exempt: tuple[Network, ...] = ()
