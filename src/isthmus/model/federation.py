"""Other trust domains, whose workloads may be met as theirs: who they are, and where their trust bundles come from.

Terms: SPIFFE Federation; SPIRE's ClusterFederatedTrustDomain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from isthmus.diag import Origin
from isthmus.model.spiffe_bundle import SpiffeBundle

_SCHEME = "spiffe://"


class BundleEndpointProfile(Enum):
    """How the endpoint that gives a bundle proves who it is (SPIFFE Federation, section 5.2)."""

    https_web = "https_web"
    """As a web server: a certificate that the system's roots vouch for."""
    https_spiffe = "https_spiffe"
    """By its X.509-SVID."""


@dataclass(frozen=True, slots=True)
class FederatedTrustDomain:
    trust_domain: str
    url: str
    profile: BundleEndpointProfile
    endpoint_spiffe_id: str | None
    """Who the endpoint must be; only for https_spiffe."""
    bundle: SpiffeBundle | None
    """What is believed until the endpoint was reached for the first time."""
    origin: Origin


@dataclass(frozen=True, slots=True)
class TrustDomains:
    """``own``: the mesh's trust domain, then its aliases. ``federated``: those whose peers are let in beside it."""

    own: tuple[str, ...]
    federated: tuple[str, ...] = ()

    def in_all_own(self, identities: Iterable[str]) -> tuple[str, ...]:
        """SPIFFE IDs of the mesh under every name of its trust domain, others as they are.

        Istio: spiffe.ExpandWithTrustDomains, for the names that servers are expected to have.
        """
        found: list[str] = []
        for identity in identities:
            trust_domain, slash, path = identity.removeprefix(_SCHEME).partition("/")
            if identity.startswith(_SCHEME) and slash and trust_domain in self.own:
                found += [f"{_SCHEME}{name}/{path}" for name in self.own]
            else:
                found.append(identity)
        return tuple(dict.fromkeys(found))

    def authority_of(self, identities: Iterable[str]) -> str | None:
        """The one trust domain that all ``identities`` belong to, an alias being the mesh's own; None: several.

        A name that is no SPIFFE ID is the mesh's to give.
        """
        found = {self._authority(identity) for identity in identities}
        return found.pop() if len(found) == 1 else None

    def _authority(self, identity: str) -> str:
        trust_domain = identity.removeprefix(_SCHEME).partition("/")[0] if identity.startswith(_SCHEME) else ""
        return self.own[0] if not trust_domain or trust_domain in self.own else trust_domain
