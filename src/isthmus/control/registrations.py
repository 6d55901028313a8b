"""Which identities the Workload API of a node may give, to processes that no proxy stands beside. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from isthmus.identity.jwt_svid import DEFAULT_TTL
from isthmus.model.identity import Identity
from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Role
from isthmus.model.registration import WorkloadRegistration
from isthmus.proxy.plan import PlannedRegistration


def registrations_of(mesh: Mesh, node: str) -> Iterator[WorkloadRegistration]:
    return (one for one in mesh.registrations if one.node == node)


def planned_registrations(mesh: Mesh, node: str, svid_ttl: timedelta) -> tuple[PlannedRegistration, ...]:
    """What the agent of ``node`` goes by."""
    return tuple(
        PlannedRegistration(
            identity=registered_identity(mesh, one),
            selectors=one.selectors,
            svid_ttl_seconds=int((one.ttl or svid_ttl).total_seconds()),
            jwt_audiences=one.jwt_audiences,
            hint=one.hint,
        )
        for one in registrations_of(mesh, node)
    )


def registered_identity(mesh: Mesh, registration: WorkloadRegistration) -> str:
    return Identity(mesh.settings.trust_domain, registration.namespace, registration.service_account).uri


def jwt_ttl(mesh: Mesh, node: str, identity: str, audiences: tuple[str, ...]) -> timedelta | None:
    """How long a JWT-SVID of ``identity`` (a SPIFFE ID) lives; None: no workload of ``node`` may have one for these.

    A program beside its sidecar has them for anybody; of several registrations that allow it, the longest life counts.
    """
    found = [
        one.jwt_ttl or DEFAULT_TTL
        for one in registrations_of(mesh, node)
        if registered_identity(mesh, one) == identity
        and (one.jwt_audiences is None or set(audiences) <= set(one.jwt_audiences))
    ]
    beside = (proxy for proxy in mesh.proxies if proxy.node == node and proxy.role is Role.SIDECAR)
    if any(proxy.identity.uri == identity for proxy in beside):
        found.append(DEFAULT_TTL)
    return max(found, default=None)
