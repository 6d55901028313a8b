"""What is fetched: the bundle of one trust domain, from an endpoint that proves who it is."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.model.federation import BundleEndpointProfile, FederatedTrustDomain
from isthmus.model.spiffe_bundle import SpiffeBundle


@dataclass(frozen=True, slots=True)
class BundleSource:
    """``anchor``: what the manifest gives for the first contact. Who gives another one begins anew from it."""

    trust_domain: str
    url: str
    profile: BundleEndpointProfile
    endpoint_spiffe_id: str | None = None
    anchor: SpiffeBundle | None = None

    @classmethod
    def of(cls, declared: FederatedTrustDomain) -> BundleSource:
        return cls(declared.trust_domain, declared.url, declared.profile, declared.endpoint_spiffe_id, declared.bundle)

    @property
    def endpoint_trust_domain(self) -> str | None:
        """Whose bundle vouches for the endpoint; None: the web's authorities do."""
        if self.endpoint_spiffe_id is None:
            return None
        return self.endpoint_spiffe_id.removeprefix("spiffe://").partition("/")[0]
