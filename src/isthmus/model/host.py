"""Hosts and wildcard hosts."""

from __future__ import annotations

from collections.abc import Iterator


def host_covers(pattern: str, host: str) -> bool:
    """Whether ``pattern`` (``*``, ``*.example.com`` or a name) takes ``host``."""
    return pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]) and host != pattern[2:])


def wildcards(host: str) -> Iterator[str]:
    """Every pattern that takes ``host``, the closest first."""
    yield host
    at = host.find(".")
    while at != -1:
        yield f"*{host[at:]}"
        at = host.find(".", at + 1)
    if host != "*":
        yield "*"
