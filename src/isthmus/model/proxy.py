"""Proxies: the Envoys that carry gateways and workloads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from isthmus.diag import Origin
from isthmus.model.identity import Identity


class Role(Enum):
    GATEWAY = "gateway"
    SIDECAR = "sidecar"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One Envoy. ``node`` is the machine whose agent holds its key."""

    role: Role
    name: str
    namespace: str
    labels: Mapping[str, str]
    identity: Identity
    origin: Origin
    node: str = "local"

    @property
    def id(self) -> str:
        """Envoy's node.id."""
        return f"{self.role.value}~{self.namespace}~{self.name}"
