"""WorkloadGroup: what machines that register themselves have in common. Each is a WorkloadEntry made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from isthmus.config.decode import (
    Reader,
    checked,
    integer,
    later,
    list_of,
    map_of,
    one_of,
    optional,
    port,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.service_account import service_account
from isthmus.kinds.shape.support import refused
from isthmus.kinds.shape.version import NETWORKING
from isthmus.kinds.workload_entry import weight
from isthmus.model.mesh import Mesh
from isthmus.model.probe import Exec, HttpGet, Probe, TcpSocket
from isthmus.model.workload import WorkloadGroup

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class MetadataSpec:
    at: Node
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class TemplateSpec:
    at: Node
    ports: dict[str, int]
    labels: dict[str, str]
    service_account: str
    weight: int


@dataclass(frozen=True, slots=True)
class HeaderSpec:
    at: Node
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class HttpGetSpec:
    at: Node
    path: str
    port: int
    host: str
    scheme: str
    http_headers: tuple[HeaderSpec, ...]


@dataclass(frozen=True, slots=True)
class TcpSocketSpec:
    at: Node
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ExecSpec:
    at: Node
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    at: Node
    initial_delay_seconds: int
    timeout_seconds: int
    period_seconds: int
    success_threshold: int
    failure_threshold: int
    http_get: HttpGetSpec | None
    tcp_socket: TcpSocketSpec | None
    exec: ExecSpec | None


@dataclass(frozen=True, slots=True)
class WorkloadGroupSpec:
    at: Node
    metadata: MetadataSpec | None
    template: TemplateSpec
    probe: Probe | None


def _no_less_than(least: int) -> Reader[int]:
    return checked(integer, lambda value: None if value >= least else f"{value} is less than {least}")


def _scheme_problem(written: str) -> str | None:
    return None if written.upper() in ("HTTP", "HTTPS") else f'"{written}" is not one of HTTP, HTTPS'


def _path_problem(written: str) -> str | None:
    return None if written.startswith("/") else f'"{written}" is not a path: it starts with "/"'


def _header_problem(spec: HeaderSpec) -> str | None:
    wrong = any(letter in spec.name + spec.value for letter in "\r\n\0") or not spec.name.strip()
    return "not a header" if wrong else None


_HTTP_GET = record(
    HttpGetSpec,
    optional("path", checked(text, _path_problem), "/"),
    required("port", port),
    optional("host", text, _LOOPBACK, note="who is asked; the Host header unless httpHeaders has one"),
    optional("scheme", checked(text, _scheme_problem), "HTTP"),
    optional(
        "httpHeaders",
        list_of(checked(record(HeaderSpec, required("name", text), optional("value", text, "")), _header_problem)),
        (),
    ),
)
_TCP_SOCKET = record(TcpSocketSpec, optional("host", text, _LOOPBACK), required("port", port))
_EXEC = record(
    ExecSpec,
    required(
        "command",
        list_of(text, least=1),
        note="run by the node, as its own user, if it was started with --allow-exec-probe",
    ),
)


def _probe(spec: ProbeSpec, node: Node, report: Report) -> Probe | None:
    action = _action(spec)
    if action is None:
        return None
    return Probe(
        action,
        initial_delay=timedelta(seconds=spec.initial_delay_seconds),
        timeout=timedelta(seconds=spec.timeout_seconds),
        period=timedelta(seconds=spec.period_seconds),
        success=spec.success_threshold,
        failure=spec.failure_threshold,
    )


def _action(spec: ProbeSpec) -> HttpGet | TcpSocket | Exec | None:
    if spec.http_get is not None:
        asked = spec.http_get
        headers = tuple((header.name, header.value) for header in asked.http_headers)
        return HttpGet(asked.port, asked.path, asked.host, asked.scheme.lower(), headers)
    if spec.tcp_socket is not None:
        return TcpSocket(spec.tcp_socket.port, spec.tcp_socket.host)
    return Exec(spec.exec.command) if spec.exec is not None else None


def _action_problem(spec: ProbeSpec) -> str | None:
    given = any(spec.at.get(name) is not None for name in ("httpGet", "tcpSocket", "exec"))
    return one_of("httpGet", "tcpSocket", "exec")(spec) if given else "a probe is httpGet, tcpSocket or exec"


_PROBE = converted(
    checked(
        record(
            ProbeSpec,
            optional("initialDelaySeconds", _no_less_than(0), 0),
            optional("timeoutSeconds", _no_less_than(1), 1),
            optional("periodSeconds", _no_less_than(1), 10),
            optional("successThreshold", _no_less_than(1), 1),
            optional("failureThreshold", _no_less_than(1), 3),
            optional("httpGet", _HTTP_GET),
            optional("tcpSocket", _TCP_SOCKET),
            optional("exec", _EXEC),
            refused("grpc", "nobody would ask whether the program is well"),
        ),
        _action_problem,
    ),
    _probe,
)

SPEC: Reader[WorkloadGroupSpec] = record(
    WorkloadGroupSpec,
    optional("metadata", record(MetadataSpec, optional("labels", map_of(text), {}), later("annotations"))),
    required(
        "template",
        record(
            TemplateSpec,
            later("address", "every member says its own"),
            optional("ports", map_of(port), {}),
            optional("labels", map_of(text), {}),
            optional("serviceAccount", service_account, "default"),
            optional("weight", weight, 1),
            later("network"),
            later("locality"),
        ),
    ),
    optional("probe", _PROBE, note="asked by the node; until it is well, and when it is not, nobody is sent there"),
)


def apply(resources: Sequence[Resource[WorkloadGroupSpec]], mesh: Mesh, report: Report) -> Mesh:
    groups = {f"{resource.namespace}/{resource.name}": _group(resource) for resource in resources}
    return replace(mesh, workload_groups={**mesh.workload_groups, **groups})


def _group(resource: Resource[WorkloadGroupSpec]) -> WorkloadGroup:
    spec = resource.spec
    template = spec.template
    return WorkloadGroup(
        name=resource.name,
        namespace=resource.namespace,
        # The metadata's win (Istio: autoregistration/controller.go, workloadEntryFromGroup).
        labels={**template.labels, **(spec.metadata.labels if spec.metadata is not None else {})},
        ports=template.ports,
        service_account=template.service_account,
        weight=template.weight or 1,
        probe=spec.probe,
        origin=resource.origin,
    )


KIND = Kind(
    name="WorkloadGroup",
    api_versions=NETWORKING,
    spec=SPEC,
    apply=apply,
    about="What machines that register themselves have in common (`isthmus proxy sidecar --workload-group`).",
)
