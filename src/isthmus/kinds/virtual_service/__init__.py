"""VirtualService: which requests for a host go where, at gateways and in the mesh."""

from __future__ import annotations

from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.version import NETWORKING
from isthmus.kinds.virtual_service.spec import SPEC
from isthmus.kinds.virtual_service.table import apply

KIND = Kind(
    name="VirtualService",
    api_versions=NETWORKING,
    spec=SPEC,
    apply=apply,
    about="Routes for hosts, at gateways and in the mesh: matches, destinations, redirects, retries, faults.",
)
