"""LocalWorkload (ours): a program of this machine with a sidecar, started by ``up`` or by hand."""

from __future__ import annotations

import os.path
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from isthmus.config.decode import Reader, checked, list_of, map_of, optional, port, record, required, text
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.host import NOT_FOUND, find_service, full_host, host_name
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.service_account import service_account
from isthmus.kinds.workload_entry import is_loopback
from isthmus.model.mesh import Mesh
from isthmus.model.workload import Command, Placement, Upstream, Workload, WorkloadPort

DUPLICATE_WORKLOAD = Code(
    "ISM2104",
    Severity.ERROR,
    "Two workloads of one name",
    '"{name}" is the name of {other} already: this workload is left out',
    what="A LocalWorkload and a WorkloadEntry of one namespace have the same name.",
    why="The name of a workload is the name of its sidecar; two cannot share one.",
    example="kind: WorkloadEntry   # orders\n---\nkind: LocalWorkload   # orders, too",
    fix="Rename one of them.",
    stops=False,
)

_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BIND = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:\[\]]+):(\d{1,5})")


@dataclass(frozen=True, slots=True)
class PortSpec:
    at: Node
    name: str
    number: int
    listen: int | None


@dataclass(frozen=True, slots=True)
class UpstreamSpec:
    at: Node
    host: str
    port: int
    bind: str


@dataclass(frozen=True, slots=True)
class LocalWorkloadSpec:
    at: Node
    labels: dict[str, str] | None
    service_account: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: dict[str, str]
    working_directory: str
    ports: tuple[PortSpec, ...]
    upstreams: tuple[UpstreamSpec, ...]


def _bind_problem(bind: str) -> str | None:
    written = _BIND.fullmatch(bind)
    if written is None or int(written[2]) > 65535:
        return f'"{bind}" is not address:port'
    if not is_loopback(written[1].strip("[]")):
        return f'"{bind}" is no loopback address: the workload lends its identity to whoever reaches it'
    return None


def _ports_problem(ports: tuple[PortSpec, ...]) -> str | None:
    if len({each.name for each in ports}) < len(ports):
        return "two ports have the same name"
    if len({each.number for each in ports}) < len(ports):
        return "two ports have the same number"
    return None


def _environment_problem(env: dict[str, str]) -> str | None:
    wrong = next((name for name in env if not _ENVIRONMENT.fullmatch(name)), None)
    return None if wrong is None else f'"{wrong}" is not the name of an environment variable'


def _args_problem(spec: LocalWorkloadSpec) -> str | None:
    return "args without a command" if spec.args and not spec.command else None


_PORT = record(
    PortSpec,
    required("name", checked(text, lambda name: None if _NAME.fullmatch(name) else f'"{name}" is not a port\'s name')),
    required("number", port),
    optional("listen", port, note="where the program listens; else a free port, told as PORT and PORT_<NAME>"),
)
_UPSTREAM = record(
    UpstreamSpec,
    required("host", host_name),
    required("port", port),
    optional("bind", checked(text, _bind_problem), "127.0.0.1:0", note="loopback only; port 0: a free one"),
)
SPEC: Reader[LocalWorkloadSpec] = checked(
    record(
        LocalWorkloadSpec,
        optional("labels", map_of(text), note="the labels of the metadata by default"),
        optional("serviceAccount", service_account, "default"),
        optional("command", list_of(text, least=1), (), note="without it the program is started by hand"),
        optional("args", list_of(text), ()),
        optional("env", checked(map_of(text), _environment_problem), {}),
        optional("workingDirectory", text, ".", note="from the manifest's folder"),
        optional("ports", checked(list_of(_PORT), _ports_problem), ()),
        optional("upstreams", list_of(_UPSTREAM), ()),
    ),
    _args_problem,
)


def apply(resources: Sequence[Resource[LocalWorkloadSpec]], mesh: Mesh, report: Report) -> Mesh:
    workloads = list(mesh.workloads)
    named = {(workload.namespace, workload.name): workload for workload in workloads}
    for resource in resources:
        other = named.get((resource.namespace, resource.name))
        if other is not None:
            at = resource.root.at("metadata", "name")
            report.add(DUPLICATE_WORKLOAD, at, name=resource.name, other=other.origin.ref)
            continue
        workloads.append(_workload(resource, mesh, report))
    return replace(mesh, workloads=tuple(workloads))


def _workload(resource: Resource[LocalWorkloadSpec], mesh: Mesh, report: Report) -> Workload:
    spec = resource.spec
    return Workload(
        name=resource.name,
        namespace=resource.namespace,
        labels=resource.labels if spec.labels is None else spec.labels,
        service_account=spec.service_account,
        address="127.0.0.1",
        ports=tuple(WorkloadPort(each.name, each.number, each.listen) for each in spec.ports),
        placement=Placement.LOCAL,
        origin=resource.origin,
        command=_command(resource),
        upstreams=tuple(_upstream(each, resource, mesh, report) for each in spec.upstreams),
    )


def _command(resource: Resource[LocalWorkloadSpec]) -> Command | None:
    spec = resource.spec
    if not spec.command:
        return None
    folder = os.path.dirname(resource.source.file)
    return Command(
        (*spec.command, *spec.args), spec.env, os.path.normpath(os.path.join(folder, spec.working_directory))
    )


def _upstream(spec: UpstreamSpec, resource: Resource[LocalWorkloadSpec], mesh: Mesh, report: Report) -> Upstream:
    service = find_service(spec.host, resource.namespace, mesh, spec.at.at("host"), report)
    if service is not None and service.port(spec.port) is None:
        numbers = ", ".join(str(each.number) for each in service.ports)
        near = f" (it has {numbers})" if numbers else ""
        report.add(NOT_FOUND, spec.at.at("port"), kind=f"port of {service.host}", name=spec.port, hint=near)
    host = full_host(spec.host, resource.namespace, mesh.settings)
    return Upstream(host, spec.port, spec.bind, replace(resource.origin, source=spec.at.source))


KIND = Kind(
    name="LocalWorkload",
    api_versions=("isthmus.dev/v1alpha1",),
    spec=SPEC,
    apply=apply,
    about="A program of this machine with a sidecar and an identity; with a command, isthmus up starts it.",
)
