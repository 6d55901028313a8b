"""The World: what was learnt while running, not declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from isthmus.model.policy import JwtRule


@dataclass(frozen=True, slots=True, order=True)
class PortKey:
    """One listening place of a proxy; ``purpose``: ``gateway``, ``inbound``, ``app``, ``outbound`` or ``upstream``."""

    proxy: str
    purpose: str
    number: int


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class IssuerKeys:
    """Keys of one issuer, or why there are none."""

    jwks: str | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class World:
    addresses: Mapping[PortKey, Address] = field(default_factory=dict)
    """Where listeners and programs stand; ports come from the system and are kept."""
    jwks: Mapping[tuple[str, str | None], IssuerKeys] = field(default_factory=dict)
    """By (issuer, jwksUri)."""
    outbound_credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By proxy id: the value of ``proxy-authorization`` that its own workload alone can send."""

    svid_ttl: timedelta = timedelta(hours=1)

    def address(self, proxy: str, purpose: str, number: int) -> Address | None:
        return self.addresses.get(PortKey(proxy, purpose, number))

    def keys_of(self, rule: JwtRule) -> IssuerKeys:
        if rule.jwks is not None:
            return IssuerKeys(rule.jwks)
        return self.jwks.get((rule.issuer, rule.jwks_uri), IssuerKeys(None, "not fetched yet"))
