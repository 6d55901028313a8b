"""The decision services of a node: what its Envoys ask, beside themselves."""

from __future__ import annotations

from enum import Enum


class DecisionService(Enum):
    """Each is one process of the node, or several that answer the same, on Unix sockets in the runtime folder."""

    CREDENTIALS = "credentials"
    """Who a client is: API keys, client certificates, opaque and bound tokens (``ext_authz``)."""
    REGO = "rego"
    """What Rego policies say (``ext_authz``)."""
    LIMITS = "limits"
    """How often something happened (Envoy's rate limit protocol)."""
