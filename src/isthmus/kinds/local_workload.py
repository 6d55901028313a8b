"""LocalWorkload (ours): a program of this machine with a sidecar, started by ``up`` or by hand."""

from __future__ import annotations

import os.path
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from isthmus.config.decode import Reader, checked, enum_of, list_of, map_of, optional, port, record, required, text
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.exclusion import Exclusion, excluded
from isthmus.kinds.shape.host import NOT_FOUND, find_service, full_host, host_name
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.remember import remembered
from isthmus.kinds.shape.service_account import service_account
from isthmus.kinds.virtual_service.nobody_says_where import NOBODY_SAYS_WHERE
from isthmus.kinds.workload_entry import is_loopback
from isthmus.model.cluster import Resolution
from isthmus.model.mesh import Mesh
from isthmus.model.workload import Command, Interception, Network, Placement, Upstream, Workload, WorkloadPort

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

NOTHING_TO_ISOLATE = Code(
    "ISM2180",
    Severity.ERROR,
    "Isolated without a command",
    "network: Isolated without a command: a program that you start yourself is in the machine's own network",
    what="A LocalWorkload without a command asks for a network of its own.",
    why="Only a program that Isthmus starts can be put there; yours would stay open to every process of the machine.",
    example="kind: LocalWorkload\nspec:\n  network: Isolated\n  ports: [{name: http, number: 8080, listen: 9000}]",
    fix="Give it a command, or start the program with `isthmus run --network isolated -- CMD`.",
    stops=False,
)
NO_WAY_AROUND = Code(
    "ISM2181",
    Severity.WARNING,
    "Excluded ranges in a network of its own",
    "network: Isolated: what excludeOutboundIPRanges names is called through the sidecar all the same",
    what="A LocalWorkload asks for a network of its own, and for addresses that it calls without its sidecar.",
    why="In a network of its own there is nothing but the sidecar: no address can be called past it.",
    example="metadata:\n  annotations: {traffic.sidecar.istio.io/excludeOutboundIPRanges: 192.0.2.0/24}\n"
    "spec:\n  network: Isolated\n  command: [web]",
    fix="Take one of the two out. Without `network`, such a workload stays in the machine's network.",
)

NOTHING_TO_REDIRECT = Code(
    "ISM2182",
    Severity.ERROR,
    "Calls redirected in the machine's network",
    "interceptionMode: REDIRECT needs network: Isolated: this program's calls are not redirected",
    what="A LocalWorkload asks that its connections are redirected to its sidecar, in the machine's own network.",
    why="There a redirection would take the connections of every process; a network of its own has this program alone.",
    example="kind: LocalWorkload\nspec:\n  network: Host\n  interceptionMode: REDIRECT\n  command: [web]",
    fix="Take `network: Host` away, and give it a command; or let it call through http_proxy or upstreams.",
    stops=False,
)

RUN_SOURCE = "<isthmus run>"
"""In place of a file: the workloads of ``isthmus run``, which starts their program itself."""
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
    network: Network | None
    interception_mode: Interception


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


def _network_problem(written: str) -> str | None:
    names = [network.value for network in Network]
    return None if written in names else f'"{written}" is not one of {", ".join(names)}'


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
_NETWORK = converted(checked(text, _network_problem), lambda written, *_: Network(written))
_INTERCEPTION_NOTE = "REDIRECT: every TCP connection goes to the sidecar, which answers the services' names as well"
_NETWORK_NOTE = (
    "Isolated (with a command, the default): its own and its sidecar's, where that is allowed; Host: the machine's"
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
        optional("network", _NETWORK, note=_NETWORK_NOTE),
        optional("interceptionMode", enum_of(Interception), Interception.NONE, note=_INTERCEPTION_NOTE),
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


@remembered
def _workload(resource: Resource[LocalWorkloadSpec], mesh: Mesh, report: Report) -> Workload:
    spec = resource.spec
    exclusion = excluded(resource, report)
    network = _network(resource, exclusion, report)
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
        network=network,
        interception=_interception(resource, network, report),
        no_proxy=exclusion.ranges,
        direct_ports=exclusion.ports,
    )


def _network(resource: Resource[LocalWorkloadSpec], exclusion: Exclusion, report: Report) -> Network:
    """Apart wherever it can be: what is started here, and does not ask to go out by itself."""
    wanted, command = resource.spec.network, resource.spec.command
    if wanted is not Network.ISOLATED:
        return wanted or (Network.ISOLATED if command and not exclusion.ranges else Network.HOST)
    at = resource.root.at("spec", "network")
    if not command and resource.source.file != RUN_SOURCE:
        report.add(NOTHING_TO_ISOLATE, at)
        return Network.HOST
    if exclusion.ranges:
        report.add(NO_WAY_AROUND, at)
    return wanted


def _interception(resource: Resource[LocalWorkloadSpec], network: Network, report: Report) -> Interception:
    wanted = resource.spec.interception_mode
    if wanted is Interception.REDIRECT and network is not Network.ISOLATED:
        report.add(NOTHING_TO_REDIRECT, resource.root.at("spec", "interceptionMode"))
        return Interception.NONE
    return wanted


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
    if service is not None and service.resolution is Resolution.NONE:
        report.add(NOBODY_SAYS_WHERE, spec.at.at("host"), host=service.host, where="at a local address")
    host = full_host(spec.host, resource.namespace, mesh.settings)
    return Upstream(host, spec.port, spec.bind, replace(resource.origin, source=spec.at.source))


KIND = Kind(
    name="LocalWorkload",
    api_versions=("isthmus.dev/v1alpha1",),
    spec=SPEC,
    apply=apply,
    about="A program of this machine with a sidecar and an identity; with a command, isthmus up starts it.",
)
