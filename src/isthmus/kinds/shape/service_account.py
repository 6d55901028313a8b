"""Service accounts: a segment of a SPIFFE ID, so nothing that could end it or begin another."""

from __future__ import annotations

import re

from isthmus.config.decode import Reader, checked, text

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LONGEST = 253


def service_account_problem(name: str) -> str | None:
    """None for a name that Kubernetes takes (RFC 1123 subdomain)."""
    if len(name) <= _LONGEST and _NAME.fullmatch(name) and ".." not in name:
        return None
    return f'"{name}" is not a service account: lower-case letters, digits, "-" and ".", up to {_LONGEST}'


service_account: Reader[str] = checked(text, service_account_problem)
