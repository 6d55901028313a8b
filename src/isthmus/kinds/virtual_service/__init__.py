"""VirtualService: which requests for a host go where, at gateways and in the mesh."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.config.resource import Resource
from isthmus.diag import Report
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.version import NETWORKING
from isthmus.kinds.virtual_service.l4 import apply_l4
from isthmus.kinds.virtual_service.nobody_says_where import tell_of_gateway_routes
from isthmus.kinds.virtual_service.spec import SPEC, VirtualServiceSpec
from isthmus.kinds.virtual_service.table import apply as apply_http
from isthmus.model.mesh import Mesh


def apply(resources: Sequence[Resource[VirtualServiceSpec]], mesh: Mesh, report: Report) -> Mesh:
    done = apply_l4(resources, apply_http(resources, mesh, report), report)
    tell_of_gateway_routes(done, report)
    return done


KIND = Kind(
    name="VirtualService",
    api_versions=NETWORKING,
    spec=SPEC,
    apply=apply,
    about="Routes for hosts, of requests and of connections, at gateways and in the mesh.",
)
