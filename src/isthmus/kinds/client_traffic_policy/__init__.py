"""ClientTrafficPolicy (ours, after Envoy Gateway's): how clients' connections to a Gateway's servers are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.client_traffic_policy.beside import without_what_cannot_be
from isthmus.kinds.client_traffic_policy.settle import settled
from isthmus.kinds.client_traffic_policy.spec import SPEC, ClientTrafficPolicySpec, TargetSpec
from isthmus.kinds.shape.host import NOT_FOUND, hint
from isthmus.kinds.shape.kind import Kind
from isthmus.model.gateway import ClosedServer, Gateway, Server
from isthmus.model.mesh import Mesh

SHADOWED_POLICY = Code(
    "ISM2240",
    Severity.WARNING,
    "A ClientTrafficPolicy that another one hides",
    "it has no effect at {target}: {other} comes first",
    what="Two ClientTrafficPolicies are for the same Gateway, or for the same server of it.",
    why="One policy holds at a server, whole: the one for its sectionName, then the first in order of loading.",
    example="two policies with targetRefs: [{kind: Gateway, name: edge}]",
    fix="Merge them into one, or give each a sectionName of its own.",
)


_Policy = Resource[ClientTrafficPolicySpec]


@dataclass(frozen=True, slots=True)
class _Attached:
    policy: _Policy
    target: TargetSpec


def apply(resources: Sequence[_Policy], mesh: Mesh, report: Report) -> Mesh:
    attached: dict[tuple[str, str | None], _Attached] = {}
    for policy in resources:
        for target in policy.spec.target_refs:
            if not _found(policy, target, mesh, report):
                continue
            place = f"{policy.namespace}/{target.name}", target.section_name
            first = attached.setdefault(place, _Attached(policy, target))
            if first.policy is not policy:
                named = "/".join(filter(None, (f"Gateway/{place[0]}", place[1])))
                report.add(SHADOWED_POLICY, target.at, target=named, other=first.policy.origin.ref)
    if not attached:
        return mesh
    return replace(mesh, gateways=tuple(_with_policies(one, attached, mesh, report) for one in mesh.gateways))


def _found(policy: _Policy, target: TargetSpec, mesh: Mesh, report: Report) -> bool:
    """Whether the target is there; IST0101 if not."""
    own = {gateway.name: gateway for gateway in mesh.gateways if gateway.namespace == policy.namespace}
    gateway = own.get(target.name)
    if gateway is None:
        report.add(NOT_FOUND, target.at.at("name"), kind="Gateway", name=target.name, hint=hint(target.name, own))
        return False
    section = target.section_name
    names = [*(server.port_name for server in gateway.servers), *(server.port_name for server in gateway.closed)]
    if section is not None and section not in names:
        what = f"server's port of Gateway/{gateway.key}"
        report.add(NOT_FOUND, target.at.at("sectionName"), kind=what, name=section, hint=hint(section, names))
        return False
    return True


def _with_policies(
    gateway: Gateway, attached: dict[tuple[str, str | None], _Attached], mesh: Mesh, report: Report
) -> Gateway:
    """The Gateway with what the most specific policy says of each of its servers."""
    servers: list[Server] = []
    closed: list[ClosedServer] = list(gateway.closed)
    uses: dict[str, _Policy] = {}
    for server in gateway.servers:
        own = attached.get((gateway.key, server.port_name), attached.get((gateway.key, None)))
        if own is None:
            servers.append(server)
            continue
        policy = uses[server.port_name] = own.policy
        traffic = replace(policy.spec.value, origin=policy.origin)
        opened = settled(server, traffic, policy.spec, gateway.namespace, mesh, report)
        if opened is not None:
            servers.append(opened)
        else:
            hosts = tuple(host.name for host in server.hosts)
            closed.append(ClosedServer(server.port, hosts, server.port_name))
    found = replace(gateway, servers=tuple(servers), closed=tuple(closed))
    return without_what_cannot_be(found, uses, mesh, report)


KIND = Kind(
    name="ClientTrafficPolicy",
    api_versions=("isthmus.dev/v1alpha1",),
    spec=SPEC,
    apply=apply,
    about="How a Gateway's servers take clients' connections: what certificates they need, and how TLS is spoken.",
    security=True,
)
