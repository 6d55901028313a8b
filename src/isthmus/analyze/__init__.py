"""Checks of what is legal but wrong. Adding one = one module, one entry, one test."""

from isthmus.analyze import (
    claim_route,
    client_name,
    custom_rule,
    deny_tcp,
    failed_handshakes,
    jwks_uri,
    lifetime,
    optional_token,
    own_port,
    plaintext_peer,
    retry_timeout,
    server_trust_domain,
    stripped_token,
    tls_file,
    unmatched_service,
    unused_server,
)
from isthmus.analyze.check import Check

CHECKS: tuple[Check, ...] = (
    custom_rule.CHECK,
    optional_token.CHECK,
    plaintext_peer.CHECK,
    deny_tcp.CHECK,
    unused_server.CHECK,
    stripped_token.CHECK,
    claim_route.CHECK,
    jwks_uri.CHECK,
    own_port.CHECK,
    retry_timeout.CHECK,
    unmatched_service.CHECK,
    tls_file.CHECK,
    client_name.CHECK,
    lifetime.CHECK,
    failed_handshakes.CHECK,
    server_trust_domain.CHECK,
)
