"""Options of the command line that nothing asks for, and what this machine cannot do: said at the start."""

from __future__ import annotations

import logging

from isthmus.control.desired import listening_places, wants_isolation, wants_redirection
from isthmus.model.mesh import Mesh
from isthmus.proxy.namespace import Refusals
from isthmus.proxy.ports import PortBook
from isthmus.serve.options import ServeOptions

logger = logging.getLogger(__name__)


def warn_of_unused(options: ServeOptions, mesh: Mesh, ports: PortBook, refusals: Refusals) -> None:
    for one in ports.unused(listening_places(mesh)):
        whose = f"no gateway {one.gateway}" if one.gateway else "no gateway"
        logger.warning("-p %s:%s has no effect: %s declares port %s", one.port, one.declared, whose, one.declared)
    if refusals.isolation is not None and wants_isolation(mesh):
        logger.warning("programs share the machine's network, their ports with it: %s", refusals.isolation)
    if refusals.redirection is not None and wants_redirection(mesh):
        logger.warning("calls are not redirected, interceptionMode has no effect: %s", refusals.redirection)
    issuers = {rule.issuer for policy in mesh.policies.request for rule in policy.rules}
    for issuer in options.jwks_files.keys() - issuers:
        logger.warning("--jwks %s=... has no effect: no RequestAuthentication names this issuer", issuer)
