"""The World: what was learnt while running, not declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from isthmus.model.oidc import OidcLogin, Provider, ProviderEndpoints
from isthmus.model.policy import JwtRule
from isthmus.model.rego_bundle import ActiveBundle
from isthmus.model.revocation import ClientCrls, CrlPoints, Staple


@dataclass(frozen=True, slots=True, order=True)
class PortKey:
    """One listening place of a proxy; ``purpose``: ``gateway``, ``inbound``, ``app``, ``outbound``,
    ``upstream``, ``capture``, ``dns`` or ``metrics``."""

    proxy: str
    purpose: str
    number: int


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens. ``host``: an IP address, a DNS name, or the absolute path of a Unix socket."""

    host: str
    port: int
    """0 for a Unix socket."""

    @classmethod
    def unix(cls, path: str) -> Address:
        """``path``: absolute, at most 107 bytes (``sun_path``)."""
        return cls(path, 0)

    @property
    def is_unix(self) -> bool:
        return self.host.startswith("/")

    def __str__(self) -> str:
        if self.is_unix:
            return f"unix://{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Doors:
    """Where other machines find the control plane."""

    control_plane: Address
    enrolment: Address


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
    isolated: frozenset[str] = frozenset()
    """Sidecars (by id) in a network of their own with their program: what listens there is nobody else's to reach."""
    sockets: str = ""
    """The folder of the relay's Unix sockets, by which isolated sidecars reach what is outside."""
    starting: frozenset[PortKey] = frozenset()
    """Places before programs that came while the mesh runs, and that their proxy has not opened yet: no endpoints."""

    crls: Mapping[tuple[str, CrlPoints], ClientCrls] = field(default_factory=dict, repr=False)
    """Lists that were fetched, by the secret of the client CAs and where the lists are published."""
    staples: Mapping[str, Staple] = field(default_factory=dict, repr=False)
    """OCSP answers about gateways' own certificates, by the certificate's secret."""
    unstapled: frozenset[str] = frozenset()
    """Secrets of certificates that must not be shown without such an answer, and have none."""

    unhealthy: frozenset[str] = frozenset()
    """Sidecars (by id) of other machines whose program is not well, or has not been found to be: no endpoints."""

    revoked: frozenset[str] = frozenset()
    """SPIFFE IDs that nobody may be any more."""
    revoked_certificates: frozenset[int] = frozenset()
    """Serial numbers of certificates of our own authority that count no more."""
    own_lists: str = ""
    """The version of our own authority's roots and lists of revoked certificates; none: there are no lists."""

    providers: Mapping[str, Provider] = field(default_factory=dict)
    """What OpenID providers say of themselves, by issuer."""
    login_secrets: Mapping[str, str] = field(default_factory=dict)
    """The version of each secret that logins need and that there is, by its name (``xds/secret.py``)."""

    credential_store: str | None = field(default=None, repr=False)
    """The URL of the PostgreSQL with consumers' credentials, password and all; None: they are in the state."""

    rego_bundles: Mapping[str, ActiveBundle] = field(default_factory=dict)
    """What decides for RegoPolicies (``namespace/name``) whose policy is a bundle; none: nobody gets in."""

    shut_out: Mapping[PortKey, tuple[str, ...]] = field(default_factory=dict)
    """By the place of a listener: networks that it takes no TLS of, because their handshakes keep failing."""

    def address(self, proxy: str, purpose: str, number: int) -> Address | None:
        return self.addresses.get(PortKey(proxy, purpose, number))

    def is_isolated(self, proxy: str) -> bool:
        return proxy in self.isolated

    def is_unhealthy(self, proxy: str) -> bool:
        return proxy in self.unhealthy

    def is_starting(self, proxy: str, port: int) -> bool:
        """Whether the place before a program is no endpoint yet."""
        return PortKey(proxy, "inbound", port) in self.starting

    def keys_of(self, rule: JwtRule) -> IssuerKeys:
        if rule.jwks is not None:
            return IssuerKeys(rule.jwks)
        return self.jwks.get((rule.issuer, rule.jwks_uri), IssuerKeys(None, "not fetched yet"))

    def endpoints_of(self, login: OidcLogin) -> ProviderEndpoints | None:
        """Where its users log in; None: that is not known yet."""
        if login.endpoints is not None:
            return login.endpoints
        known = self.providers.get(login.issuer)
        return known.endpoints if known is not None else None
