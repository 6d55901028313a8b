"""Closing peers whose certificate is a CA's: Envoy's validators take one as a client's, if its signer is trusted.

Envoy has no matcher for basicConstraints. What it has of the certificate behind the handshake is its PEM text, so the
extension (RFC 5280, section 4.2.1.9) is looked for there, as DER has it: the bytes of its identifier and of ``cA TRUE``
come at one of three places within base64's groups of four, and a line may end between any two characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from isthmus.envoy_api.packages import matcher_v3, rbac_config_v3

CERTIFICATE_STATE = "isthmus.peer_certificate"
"""The key of the filter state that holds the peer's certificate, PEM in URL encoding; absent without one."""
CA_PEER = "isthmus-ca-peer"
"""The policy that closes such a connection, as its termination details name it."""

_UNKNOWN = None
_IDENTIFIER: tuple[int | None, ...] = (0x55, 0x1D, 0x13)
_CRITICAL = (0x01, 0x01, _UNKNOWN)
_TRUE = (0x01, 0x01, 0xFF)
_OCTET_STRING_OF_SEQUENCE = (0x04, _UNKNOWN, 0x30, _UNKNOWN)
"""Their lengths depend on whether there is a path length."""
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_ESCAPED = {"+": "%2B", "/": "%2F"}
_ANY_CHARACTER = r"(\w|%2.)"
_LINE_END = "(%0A)?"


def build_ca_policy() -> Any:
    """The network RBAC's Policy, of a DENY, that such a peer meets."""
    regex = matcher_v3.RegexMatcher(regex=f"(?s).*({'|'.join(_encodings())}).*")
    match = matcher_v3.FilterStateMatcher(
        key=CERTIFICATE_STATE, string_match=matcher_v3.StringMatcher(safe_regex=regex)
    )
    return rbac_config_v3.Policy(
        permissions=[rbac_config_v3.Permission(any=True)],
        principals=[rbac_config_v3.Principal(filter_state=match)],
    )


def _encodings() -> Iterator[str]:
    """Every way in which the extension can stand in a certificate's text."""
    for critical, shift in product(((), _CRITICAL), range(3)):
        content = (*_IDENTIFIER, *critical, *_OCTET_STRING_OF_SEQUENCE, *_TRUE)
        yield _LINE_END.join(_characters(content, shift))


def _characters(content: Sequence[int | None], shift: int) -> Iterator[str]:
    """The base64 characters that ``content`` settles alone, where it begins ``shift`` bytes into a group."""
    bits = "".join("?" * 8 if byte is _UNKNOWN else f"{byte:08b}" for byte in content)
    skipped = -shift * 8 % 6
    for at in range(skipped, len(bits) - 5, 6):
        group = bits[at : at + 6]
        if "?" in group:
            yield _ANY_CHARACTER
        else:
            character = _ALPHABET[int(group, 2)]
            yield _ESCAPED.get(character, character)
