"""Policies that close plain TCP where they hold: they speak of requests alone, and a connection would evade them."""

from __future__ import annotations

from isthmus.model.access import AccessPolicy
from isthmus.model.client_authentication import ClientAuthentication
from isthmus.model.rego import RegoPolicy

CLOSING_KINDS = ("access", "clients", "rego")
"""Their fields of ``Policies``."""


def closes_tcp(policy: AccessPolicy | ClientAuthentication | RegoPolicy) -> bool:
    """Whether it may refuse anybody at all."""
    match policy:
        case ClientAuthentication():
            # A login is always required (ISM2432).
            return policy.required or bool(policy.oidc)
        case RegoPolicy():
            return not policy.dry_run
        case _:
            return True
