"""Checks of what is legal but wrong. Adding one = one module, one entry, one test."""

from isthmus.analyze import (
    claim_route,
    custom_rule,
    deny_tcp,
    jwks_uri,
    optional_token,
    own_port,
    plaintext_peer,
    retry_timeout,
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
)
