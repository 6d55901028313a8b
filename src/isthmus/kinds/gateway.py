"""Gateway: the ports that gateway proxies open, for which hosts, with which TLS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from isthmus.config.decode import Reader, checked, fail, later, list_of, map_of, optional, port, record, required, text
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Place, Report, Severity
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.host import is_ip, wildcard_problem
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.server_tls import (
    SERVER_NOT_OPENED,
    SERVER_TLS,
    ServerTlsSpec,
    ends_tls,
    mode_problem,
    passes_through,
    said,
    server_tls,
)
from isthmus.kinds.shape.version import NETWORKING
from isthmus.model.gateway import ClosedServer, Gateway, Server, ServerHost, ServerProtocol, ServerTls
from isthmus.model.mesh import Deployed, Mesh
from isthmus.model.selector import labels_match
from isthmus.model.workload import Workload

CONFLICTING_GATEWAYS = Code(
    "IST0145",
    Severity.ERROR,
    "Conflicting gateways",
    'host "{host}" on port {port} belongs to {other} on the same proxies already',
    what="Two servers of the same gateway proxies claim one host on one port.",
    why="Envoy can give a host to one of them only. The first in order of loading keeps it.",
    example="two Gateways with the same selector, both with hosts: [shop.example.com] on port 443",
    fix="Give the host to one Gateway, or the Gateways different selectors or ports.",
    stops=False,
)
PORT_PROTOCOLS = Code(
    "ISM2112",
    Severity.ERROR,
    "One port, two protocols",
    "port {port} is opened as {theirs} by {other} on the same proxies: this {ours} server is not opened",
    what="Servers of the same gateway proxies open one port with and without TLS, or as HTTP and as plain TCP.",
    why="The first in order of loading decides; a plaintext server must not open a port that another one protects.",
    example="servers:\n- port: {number: 443, name: a, protocol: HTTPS}\n- port: {number: 443, name: b, protocol: HTTP}",
    fix="Give them different ports.",
    stops=False,
)
NOTHING_RUNS = Code(
    "ISM2113",
    Severity.INFO,
    "A Deployment that nothing runs here",
    "nothing runs for this Deployment here: no Gateway, LocalWorkload or WorkloadEntry goes with its pods' labels",
    what="Isthmus reads a Deployment's pod labels and starts none of its containers.",
    why="Requests to its Service find no endpoint.",
    example="kind: Deployment   # without a LocalWorkload of the same labels",
    fix="Add a LocalWorkload (a command to start) or a WorkloadEntry (a program that runs) with the pods' labels.",
)
ONE_PROXY = Code(
    "ISM2114",
    Severity.INFO,
    "One gateway proxy",
    "{what} has no effect here: one Envoy of Isthmus carries the Gateways that select these pods",
    what="The Deployment asks for replicas or sidecar injection, and a Gateway selects its pods.",
    why="On one machine one proxy does the work of all; it is Isthmus that starts it, not the Deployment.",
    example="kind: Deployment\nspec: {replicas: 3}",
    fix="Nothing needs to be done: in a cluster the same manifest does what it says.",
)

_PROTOCOLS = {protocol.name: protocol for protocol in ServerProtocol}


@dataclass(frozen=True, slots=True)
class ServerPort:
    at: Node
    number: int
    protocol: ServerProtocol
    name: str


@dataclass(frozen=True, slots=True)
class ServerSpec:
    at: Node
    port: ServerPort
    hosts: tuple[str, ...]
    tls: ServerTlsSpec | None
    bind: str | None


@dataclass(frozen=True, slots=True)
class GatewaySpec:
    at: Node
    selector: dict[str, str]
    servers: tuple[ServerSpec, ...]


def _protocol(written: str, node: Node, report: Report) -> ServerProtocol:
    if written.upper() not in _PROTOCOLS:
        raise fail(report, node, f'"{written}" is not one of {", ".join(_PROTOCOLS)}')
    return _PROTOCOLS[written.upper()]


def _host_problem(written: str) -> str | None:
    namespace, slash, name = written.rpartition("/")
    if slash and not namespace:
        return f'"{written}" names no namespace before the "/"'
    return wildcard_problem(name)


def _server_problem(server: ServerSpec) -> str | None:
    protocol, tls = server.port.protocol, server.tls
    if protocol in (ServerProtocol.HTTPS, ServerProtocol.TLS):
        if tls is None:
            return f"{protocol.name} needs tls settings"
        if passes_through(tls) and ends_tls(tls):
            unsaid = "no mode is given, which means PASSTHROUGH" if tls.mode is None else "mode is PASSTHROUGH"
            return f"{unsaid}: TLS is not ended here, so certificates, versions and cipher suites have no effect"
        return mode_problem(tls)
    if tls is not None and (tls.mode is not None or tls.cipher_suites or said(tls)):
        return f"a server of protocol {protocol.name} can have no TLS but httpsRedirect; did you mean protocol HTTPS?"
    return None


def _names_problem(gateway: GatewaySpec) -> str | None:
    names = [server.port.name for server in gateway.servers]
    return "two servers have a port of the same name" if len(set(names)) < len(names) else None


_SERVER = checked(
    record(
        ServerSpec,
        required(
            "port",
            record(
                ServerPort,
                required("number", port),
                required("protocol", converted(text, _protocol), note="HTTP, HTTP2, GRPC, HTTPS, TLS or TCP"),
                required("name", text),
                later("targetPort"),
            ),
        ),
        required("hosts", list_of(checked(text, _host_problem), least=1)),
        optional("tls", SERVER_TLS),
        optional("bind", checked(text, lambda value: None if is_ip(value) else f'"{value}" is not an IP address')),
        later("defaultEndpoint"),
        later("name"),
    ),
    _server_problem,
)
_SELECTOR: Reader[dict[str, str]] = checked(
    map_of(text), lambda labels: None if labels else "at least one label is needed"
)
SPEC = checked(
    record(GatewaySpec, required("selector", _SELECTOR), required("servers", list_of(_SERVER, least=1))),
    _names_problem,
)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A server in force, with the selector of its Gateway."""

    gateway: Gateway
    server: Server


@dataclass(slots=True)
class _Port:
    """The claims on one port of Gateways with one selector: of the first's use and address, or they were refused."""

    first: _Claim
    by_host: dict[str, list[tuple[int, _Claim]]] = field(default_factory=dict)
    """With the place of each among all claims."""


@dataclass(slots=True)
class _Claims:
    """All claims so far; ten thousand servers are not compared each with each."""

    mesh: Mesh
    _count: int = 0
    _ports: dict[int, dict[tuple[tuple[str, str], ...], _Port]] = field(default_factory=dict)

    def add(self, claim: _Claim) -> None:
        by_selector = self._ports.setdefault(claim.server.port, {})
        found = by_selector.setdefault(claim.gateway.selector, _Port(claim))
        self._count += 1
        for host in claim.server.hosts:
            found.by_host.setdefault(host.name, []).append((self._count, claim))

    def rivals(self, claim: _Claim) -> list[_Port]:
        """Those on the same port of the same proxies."""
        on_port = self._ports.get(claim.server.port, {}).values()
        return [one for one in on_port if share_proxies(one.first.gateway, claim.gateway, self.mesh)]


def apply(resources: Sequence[Resource[GatewaySpec]], mesh: Mesh, report: Report) -> Mesh:
    gateways: list[Gateway] = []
    claims = _Claims(mesh)
    for resource in resources:
        gateway = Gateway(
            name=resource.name,
            namespace=resource.namespace,
            selector=tuple(sorted(resource.spec.selector.items())),
            servers=(),
            origin=resource.origin,
        )
        servers, closed = [], []
        for spec in resource.spec.servers:
            server = _server(spec, resource, mesh, report)
            if server is None:
                hosts = tuple(_server_host(host, resource.namespace).name for host in spec.hosts)
                closed.append(ClosedServer(spec.port.number, hosts, spec.port.name))
                continue
            server = _unclaimed(spec, _Claim(gateway, server), claims, report)
            if server is not None:
                servers.append(server)
                claims.add(_Claim(gateway, server))
        gateways.append(replace(gateway, servers=tuple(servers), closed=tuple(closed)))
    for deployment in mesh.deployments:
        _tell_of(deployment, gateways, mesh, report)
    return replace(mesh, gateways=(*mesh.gateways, *gateways))


def _server(spec: ServerSpec, resource: Resource[GatewaySpec], mesh: Mesh, report: Report) -> Server | None:
    number, protocol = spec.port.number, spec.port.protocol
    tls: ServerTls | None = None
    passthrough = False
    if protocol in (ServerProtocol.HTTPS, ServerProtocol.TLS):
        assert spec.tls is not None  # _server_problem has seen to it
        passthrough = passes_through(spec.tls)
    if protocol in (ServerProtocol.HTTPS, ServerProtocol.TLS) and not passthrough:
        assert spec.tls is not None
        tls = server_tls(spec.tls, number, resource.namespace, mesh, report)
        if tls is None:
            return None
    return Server(
        port=number,
        port_name=spec.port.name,
        protocol=protocol,
        hosts=tuple(_server_host(host, resource.namespace) for host in spec.hosts),
        tls=tls,
        https_redirect=spec.tls is not None and spec.tls.https_redirect,
        origin=replace(resource.origin, source=spec.at.source),
        bind=spec.bind,
        passthrough=passthrough,
    )


def _server_host(written: str, namespace: str) -> ServerHost:
    where, _, name = written.lower().removesuffix(".").rpartition("/")
    return ServerHost(name, {"": None, "*": None, ".": namespace}.get(where, where))


def _unclaimed(spec: ServerSpec, new: _Claim, earlier: _Claims, report: Report) -> Server | None:
    """``new`` without the hosts that servers before it have on the same port of the same proxies."""
    ports = earlier.rivals(new)
    number = new.server.port
    for rival in (one.first for one in ports):
        if _use(rival.server) != _use(new.server):
            theirs, ours = rival.server.protocol.name, new.server.protocol.name
            other = rival.gateway.origin.ref
            report.add(PORT_PROTOCOLS, spec.port.at, port=number, theirs=theirs, ours=ours, other=other)
            return None
        if rival.server.bind != new.server.bind:
            theirs = rival.server.bind or "its default address"
            reason = f"{rival.gateway.origin.ref} opens the port at {theirs} on the same proxies: one port, one address"
            report.add(SERVER_NOT_OPENED, spec.at.at("bind"), port=number, reason=reason)
            return None
    kept: list[ServerHost] = []
    for index, host in enumerate(new.server.hosts):
        named = sorted((one for found in ports for one in found.by_host.get(host.name, ())), key=lambda one: one[0])
        rival_claim = next((rival for _, rival in named if _same_host(rival.server, host)), None)
        if rival_claim is None and host not in kept:
            kept.append(host)
        elif rival_claim is not None:
            other = rival_claim.gateway.origin.ref
            report.add(CONFLICTING_GATEWAYS, spec.at.at("hosts", index), host=host.name, port=number, other=other)
    return replace(new.server, hosts=tuple(kept)) if kept else None


def _use(server: Server) -> str:
    """What a port is opened for: behind TLS, names tell HTTP and connections apart; without it nothing does."""
    return "tls" if server.secured else "http" if server.is_http else "tcp"


def _same_host(server: Server, host: ServerHost) -> bool:
    """With TLS the name alone decides (SNI); without, servers for VirtualServices of different namespaces share it."""
    for other in server.hosts:
        apart = not server.secured and None not in (other.namespace, host.namespace)
        if other.name == host.name and not (apart and other.namespace != host.namespace):
            return True
    return False


def share_proxies(left: Gateway, right: Gateway, mesh: Mesh) -> bool:
    """Whether any proxy may carry the servers of both."""
    one, two = dict(left.selector), dict(right.selector)
    if labels_match(one, two) or labels_match(two, one):
        return True
    return any(labels_match(one, pod.labels) and labels_match(two, pod.labels) for pod in mesh.deployments)


def _tell_of(deployment: Deployed, gateways: Sequence[Gateway], mesh: Mesh, report: Report) -> None:
    """What becomes of a Deployment, known once the Gateways and the workloads are."""
    at = Place(deployment.origin.source, deployment.origin.ref)
    if any(labels_match(dict(gateway.selector), deployment.labels) for gateway in gateways):
        if deployment.replicas > 1:
            report.add(ONE_PROXY, at, what=f"replicas: {deployment.replicas}")
        if deployment.injected:
            report.add(ONE_PROXY, at, what="sidecar injection")
    elif not any(_stands_for(workload, deployment) for workload in mesh.workloads):
        report.add(NOTHING_RUNS, at)


def _stands_for(workload: Workload, deployment: Deployed) -> bool:
    """Whether a workload may be the Deployment's: it shares a label with the pods and contradicts none."""
    shared = workload.labels.keys() & deployment.labels.keys()
    same_labels = bool(shared) and all(workload.labels[key] == deployment.labels[key] for key in shared)
    return workload.namespace == deployment.namespace and same_labels


KIND = Kind(
    name="Gateway",
    api_versions=NETWORKING,
    spec=SPEC,
    apply=apply,
    about="What is open at the edge: ports, hosts and TLS of the gateway proxies that the selector matches.",
)
