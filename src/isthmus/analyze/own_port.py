"""A program of this machine listens beside its sidecar, where every local process reaches it."""

from __future__ import annotations

from isthmus.analyze.check import Check, at, listed
from isthmus.diag import Code, Report, Severity
from isthmus.model.mesh import Mesh
from isthmus.model.workload import Network, Placement

OWN_PORT = Code(
    "ISM5008",
    Severity.INFO,
    "A program can be reached beside its sidecar",
    "the programs' own ports ({names}) are open to every process of this machine, past their sidecars and policies",
    what="A workload of this machine listens on a loopback port of its own, behind its sidecar.",
    why="Nothing but the machine itself keeps local processes from that port: there, no policy is asked.",
    example="kind: WorkloadEntry\nspec: {address: 127.0.0.1, ports: {http: 8080}}",
    fix="A LocalWorkload with a command: `network: Isolated`. Otherwise nothing on a machine of your own; on a shared "
    "one, run each program apart (user, container, VM).",
)


def run(mesh: Mesh, report: Report) -> None:
    """Said once, at the first workload: it is the same for all."""
    reachable = [
        workload
        for workload in mesh.workloads
        if workload.placement is Placement.LOCAL and workload.network is Network.HOST and mesh.inbound_ports(workload)
    ]
    if reachable:
        names = listed(f"{workload.namespace}/{workload.name}" for workload in reachable)
        report.add(OWN_PORT, at(reachable[0].origin), names=names)


CHECK = Check("own-port", (OWN_PORT,), run)
