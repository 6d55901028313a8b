"""The identity of a workload, as Istio writes it in SPIFFE IDs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """``spiffe://<trust domain>/ns/<namespace>/sa/<service account>``."""

    trust_domain: str
    namespace: str
    service_account: str

    @property
    def uri(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    def __str__(self) -> str:
        return self.uri


CONTROL_PLANE_SERVICE_ACCOUNT = "isthmus"
"""The control plane's service account, in the root namespace."""
