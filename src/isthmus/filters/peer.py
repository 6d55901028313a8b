"""The peer's identity, as the handshake left it: the filter state that access control reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import listener_v3, matcher_v3, network_rbac_v3, rbac_config_v3
from isthmus.filters.ca_peer import CA_PEER, build_ca_policy

PEER_STATE = "isthmus.peer"
"""The key of the filter state that holds the peer's URI SANs, comma-joined; absent for a plaintext peer."""

HANDSHAKE_STATE = "isthmus.handshake_ms"
"""The key of the filter state that holds how long the connection took until its handshake was done."""

SERIAL_STATE = "isthmus.peer_serial"
"""The key of the filter state that holds the serial number of the peer's certificate; only where any is revoked."""

AMBIGUOUS_PEER = "isthmus-ambiguous-peer"
"""The policy that closes such a connection, as its termination details name it."""

REVOKED_CERTIFICATE = "isthmus-revoked-certificate"
"""The policy that closes a peer whose very certificate was revoked."""

_NETWORK_RBAC = "envoy.filters.network.rbac"


def peer_principal(match: Any) -> Any:
    """A Principal: the peer has an identity and it fits ``match`` (a StringMatcher)."""
    return rbac_config_v3.Principal(filter_state=matcher_v3.FilterStateMatcher(key=PEER_STATE, string_match=match))


def build_ambiguous_peer_guard(revoked: Iterable[int] = ()) -> Any:
    """The network filter that closes a peer with more than one URI SAN, with a CA's certificate, or a ``revoked`` one.

    ``revoked``: serial numbers of our own authority's, for validators that go by no list.

    It stands before every HTTP connection manager and TCP proxy that takes TLS. An X.509-SVID has exactly one URI SAN
    (SPIFFE X509-SVID, section 2); a peer with two would otherwise slip past every negated identity.
    """
    policy = rbac_config_v3.Policy(
        permissions=[rbac_config_v3.Permission(any=True)],
        principals=[peer_principal(matcher_v3.StringMatcher(contains=","))],
    )
    policies = {AMBIGUOUS_PEER: policy, CA_PEER: build_ca_policy()}
    serials = sorted(revoked)
    if serials:
        policies[REVOKED_CERTIFICATE] = _revoked_policy(serials)
    rules = rbac_config_v3.RBAC(action=rbac_config_v3.RBAC.DENY, policies=policies)
    config = network_rbac_v3.RBAC(rules=rules, stat_prefix="ambiguous_peer.")
    return listener_v3.Filter(name=_NETWORK_RBAC, typed_config=any_of(config))


def _revoked_policy(serials: Iterable[int]) -> Any:
    """Envoy writes serial numbers in whole octets: two hexadecimal digits each."""
    texts = [f"{serial:0{(serial.bit_length() + 7) // 8 * 2}x}" for serial in serials]
    matches = [
        matcher_v3.FilterStateMatcher(key=SERIAL_STATE, string_match=matcher_v3.StringMatcher(exact=text))
        for text in texts
    ]
    return rbac_config_v3.Policy(
        permissions=[rbac_config_v3.Permission(any=True)],
        principals=[rbac_config_v3.Principal(filter_state=match) for match in matches],
    )
