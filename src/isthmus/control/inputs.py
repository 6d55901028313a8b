"""What the control plane is made of at the moment: what was declared, and what others have learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from isthmus.config.documents import Broken
from isthmus.config.resource import Document
from isthmus.diag import Diagnostic
from isthmus.jwks.source import JwksSource
from isthmus.model.offer import Offer
from isthmus.model.oidc import Provider
from isthmus.model.rego_bundle import ActiveBundle
from isthmus.model.revocation import Revocations
from isthmus.model.world import IssuerKeys, PortKey
from isthmus.proxy.plan import TrustBundle


@dataclass(slots=True)
class Inputs:
    """Everything that a rebuild reads. Replaced piece by piece by those who learn something new."""

    documents: tuple[Document, ...] = ()
    loading: tuple[Diagnostic, ...] = ()
    """What loading found wrong."""
    unparsed: tuple[Broken, ...] = ()
    """Documents that could not be parsed, with what can be told of them."""
    guests: tuple[Document, ...] = ()
    """Workloads of ``isthmus run``."""
    jwks: Mapping[JwksSource, IssuerKeys] = field(default_factory=dict)
    taken: frozenset[PortKey] = frozenset()
    """Ports that an Envoy could not open."""
    opened: frozenset[PortKey] = frozenset()
    """Of ``World.starting``: places that their proxy has opened now."""
    listening: frozenset[str] = frozenset()
    """Sidecars (by id) whose local program takes connections, as the supervisor says."""
    trust: tuple[TrustBundle, ...] = ()
    """What our certificate authority is trusted by, and nothing else: the own trust domain's bundle."""
    federated: tuple[TrustBundle, ...] = ()
    """Other trust domains' bundles."""
    jwt_keys: tuple[str, ...] = ()
    """What our JWT-SVIDs are proved by: public JWKs."""
    programs: Mapping[str, int] = field(default_factory=dict)
    """Processes of ``isthmus run``, by the id of their sidecar."""
    revoked: frozenset[str] = frozenset()
    """SPIFFE IDs that were revoked."""
    revoked_certificates: frozenset[int] = frozenset()
    """Serial numbers of single certificates that were revoked, and have not ended."""
    offers: Mapping[str, Offer] = field(default_factory=dict)
    """What other machines carry, by node."""
    well: frozenset[str] = frozenset()
    """Nodes whose probe says that their program is healthy."""
    evicted: frozenset[str] = frozenset()
    """SPIFFE IDs in certificates that evicted nodes may still have."""
    shut_out: Mapping[PortKey, tuple[str, ...]] = field(default_factory=dict)
    """Networks whose TLS handshakes keep failing, by listener."""
    revocation: Revocations = field(default_factory=Revocations)
    """Lists and answers that were fetched."""
    providers: Mapping[str, Provider] = field(default_factory=dict)
    """What OpenID providers say of themselves, by issuer."""
    credential_store: str | None = field(default=None, repr=False)
    """The PostgreSQL with consumers' credentials; None: they are in the state."""
    rego_bundles: Mapping[str, ActiveBundle] = field(default_factory=dict)
    """What was fetched for RegoPolicies, by ``namespace/name``."""
    rego_findings: tuple[Diagnostic, ...] = ()
    learnt_of_rego: tuple[Diagnostic, ...] = ()
    """What the engine says of the texts of RegoPolicies."""
    """What is wrong with bundles."""
    learnt: tuple[Diagnostic, ...] = ()
    """What is wrong with what was learnt."""
    learnt_of_logins: tuple[Diagnostic, ...] = ()
    """The same, of OpenID providers."""
