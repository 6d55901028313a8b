"""What the Mesh asks of the machine: listening places, keys of issuers, and the plan for a node. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path

from isthmus.control.asked import ReadSecret, no_secret
from isthmus.control.client_credentials import client_credentials
from isthmus.control.decisions import planned_services, wanted_services
from isthmus.control.oidc import login_credentials
from isthmus.control.registrations import planned_registrations
from isthmus.control.server_credentials import server_credentials
from isthmus.jwks.source import JwksSource
from isthmus.model.identity import CONTROL_PLANE_SERVICE_ACCOUNT, Identity
from isthmus.model.mesh import Mesh
from isthmus.model.offer import LOCAL_NODE
from isthmus.model.oidc import logins_of
from isthmus.model.proxy import Proxy, Role
from isthmus.model.workload import Interception, Network, Placement, Workload
from isthmus.model.world import Address, PortKey, World
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import Plan, PlannedCredential, PlannedProxy, PlannedWorkload, Redirection
from isthmus.xds.endpoint import sidecar_id
from isthmus.xds.health_port import health_checks
from isthmus.xds.isolated import outside

LOOPBACK = "127.0.0.1"
OUTBOUND_PORT = 15001
"""Istio's port of what a program calls through; of networks of their own, each has it."""


def listening_places(mesh: Mesh, isolated: Set[str] = frozenset()) -> dict[PortKey, str]:
    """Every place of this machine that somebody of ours must listen on, with its interface.

    Fixed places are :func:`fixed_places`, those of ``isolated`` sidecars (ids) :func:`isolated_places`.
    """
    places: dict[PortKey, str] = {}
    for proxy in mesh.proxies:
        if proxy.role is Role.GATEWAY and proxy.node == LOCAL_NODE:
            for gateway in mesh.gateways_of(proxy):
                for server in gateway.servers:
                    places.setdefault(PortKey(proxy.id, "gateway", server.port), server.bind or LOOPBACK)
            for declared in health_checks(mesh, proxy):
                places.setdefault(PortKey(proxy.id, "gateway", declared), LOOPBACK)
    for workload in local_workloads(mesh):
        proxy_id = sidecar_id(workload)
        if proxy_id in isolated:
            continue
        places[PortKey(proxy_id, "outbound", 0)] = LOOPBACK
        for port in mesh.inbound_ports(workload):
            places[PortKey(proxy_id, "inbound", port.number)] = LOOPBACK
            if port.app_port is None:
                places[PortKey(proxy_id, "app", port.number)] = LOOPBACK
        for index, upstream in enumerate(workload.upstreams):
            host, _, number = upstream.bind.rpartition(":")
            if number == "0":
                places[PortKey(proxy_id, "upstream", index)] = host
    return places


def fixed_places(mesh: Mesh) -> dict[PortKey, Address]:
    """Places whose port the manifest itself names: a program asked for it."""
    fixed = {}
    for workload in local_workloads(mesh):
        for index, upstream in enumerate(workload.upstreams):
            host, _, number = upstream.bind.rpartition(":")
            if number != "0":
                fixed[PortKey(sidecar_id(workload), "upstream", index)] = Address(host, int(number))
    return fixed


def isolated_sidecars(mesh: Mesh, node: Node) -> frozenset[str]:
    """Ids of the sidecars that ``node`` runs in networks of their own."""
    if node.folders is None:
        return frozenset()
    return frozenset(sidecar_id(workload) for workload in _wanting_isolation(mesh))


def wants_isolation(mesh: Mesh) -> bool:
    """Whether any workload is to have a network of its own, where that can be."""
    return any(_wanting_isolation(mesh))


def wants_redirection(mesh: Mesh) -> bool:
    """Whether any workload's connections are to be redirected to its sidecar."""
    return any(one.interception is Interception.REDIRECT for one in _wanting_isolation(mesh))


def _wanting_isolation(mesh: Mesh) -> Iterator[Workload]:
    return (workload for workload in local_workloads(mesh) if workload.network is Network.ISOLATED)


def isolated_places(
    mesh: Mesh, isolated: Set[str], folders: Folders, *, redirects: bool = False
) -> dict[PortKey, Address]:
    """What ``isolated`` sidecars and their programs listen on: nobody else's ports, so a program has those it declares.

    Callers come by Unix sockets. ``redirects``: whether connections can be redirected on this machine.
    """
    places: dict[PortKey, Address] = {}
    for workload in local_workloads(mesh):
        proxy_id = sidecar_id(workload)
        if proxy_id not in isolated:
            continue
        ports = mesh.inbound_ports(workload)
        for port in ports:
            socket = folders.inbound_socket(proxy_id, port.number)
            places[PortKey(proxy_id, "inbound", port.number)] = Address.unix(str(socket))
            places[PortKey(proxy_id, "app", port.number)] = Address(LOOPBACK, port.number)
        fixed = {int(upstream.bind.rpartition(":")[2]) for upstream in workload.upstreams}
        taken = fixed | {port.number if port.app_port is None else port.app_port for port in ports}
        free = (number for number in count(OUTBOUND_PORT) if number not in taken)
        places[PortKey(proxy_id, "outbound", 0)] = Address(LOOPBACK, next(free))
        if workload.interception is Interception.REDIRECT and redirects:
            places[PortKey(proxy_id, "capture", 0)] = Address(LOOPBACK, next(free))
            places[PortKey(proxy_id, "dns", 0)] = Address(LOOPBACK, next(free))
        for index, upstream in enumerate(workload.upstreams):
            host, _, number = upstream.bind.rpartition(":")
            if number == "0":
                places[PortKey(proxy_id, "upstream", index)] = Address(host, next(free))
    return places


def local_workloads(mesh: Mesh) -> Iterator[Workload]:
    return (workload for workload in mesh.workloads if workload.placement is Placement.LOCAL)


def jwks_sources(mesh: Mesh) -> frozenset[JwksSource]:
    """The issuers whose keys have to be fetched; of rules that share one, the longest timeout."""
    timeouts: dict[tuple[str, str | None], timedelta] = {}
    for policy in mesh.policies.request:
        for rule in policy.rules:
            if rule.jwks is None:
                key = (rule.issuer, rule.jwks_uri)
                timeouts[key] = max(rule.timeout, timeouts.get(key, timedelta()))
    for login in logins_of(mesh.policies.clients):
        timeouts.setdefault((login.issuer, login.jwks_uri), login.rule.timeout)
    return frozenset(JwksSource(issuer, uri, timeout) for (issuer, uri), timeout in timeouts.items())


def metrics_places(mesh: Mesh, node: Node) -> dict[PortKey, Address]:
    """Where the proxies' exporters of metrics are met; see ``xds/metrics_export.py``."""
    runtime = Path(node.enrol_socket).parent
    folders = Folders(runtime, runtime)
    return {
        PortKey(proxy.id, "metrics", 0): Address.unix(str(folders.metrics_socket(proxy.id)))
        for proxy in mesh.proxies
        if proxy.node == LOCAL_NODE
    }


def decision_places(mesh: Mesh, proxies: Iterable[str], folders: Folders) -> dict[PortKey, Address]:
    """Where the decision services answer the ``proxies`` (ids) of one machine."""
    wanted = wanted_services(mesh)
    return {
        PortKey(proxy, service.value, index): Address.unix(str(folders.decision_socket(service, index)))
        for proxy in proxies
        for service, processes in wanted.items()
        for index in range(processes)
    }


def home_decision_places(mesh: Mesh, node: Node) -> dict[PortKey, Address]:
    """The same, of the control plane's own machine."""
    runtime = Path(node.enrol_socket).parent
    ids = (proxy.id for proxy in mesh.proxies if proxy.node == LOCAL_NODE)
    return decision_places(mesh, ids, Folders(runtime, runtime))


def workload_api_places(mesh: Mesh, node: Node) -> dict[PortKey, Address]:
    """Where the programs of this machine find the SPIFFE Workload API, by their sidecar."""
    runtime = Path(node.enrol_socket).parent
    found = Address.unix(str(Folders(runtime, runtime).workload_socket))
    return {PortKey(sidecar_id(workload), "workload-api", 0): found for workload in local_workloads(mesh)}


@dataclass(frozen=True, slots=True)
class Node:
    """The machine that a plan is for, and how it reaches the control plane."""

    name: str
    ads: Address
    enrol_socket: str
    python: str
    """The Python that runs Isthmus: ``$(PYTHON)`` in a LocalWorkload's command."""
    folders: Folders | None = None
    """Where the sockets of isolated workloads are; None: no workload can have a network of its own here."""
    redirects: bool = False
    """Whether connections can be redirected in such a network."""
    runs: bool = True
    """Whether anybody starts here what no other machine carries."""


def control_plane_identity(mesh: Mesh) -> Identity:
    settings = mesh.settings
    return Identity(settings.trust_domain, settings.root_namespace, CONTROL_PLANE_SERVICE_ACCOUNT)


def make_plan(
    mesh: Mesh, world: World, node: Node, svid_ttl: timedelta, version: int = 0, secret: ReadSecret = no_secret
) -> Plan:
    """What ``node`` runs. ``secret`` reads what Secrets hold, for the decision services that need it."""
    return Plan(
        version=version,
        node=node.name,
        trust_domain=mesh.settings.trust_domain,
        ads=node.ads,
        control_plane_id=control_plane_identity(mesh).uri,
        enrol_socket=node.enrol_socket,
        svid_ttl_seconds=int(svid_ttl.total_seconds()),
        proxies=planned_proxies(mesh, world, node.name),
        registrations=planned_registrations(mesh, node.name, svid_ttl),
        workloads=tuple(
            _planned_workload(mesh, world, workload, node) for workload in local_workloads(mesh) if workload.command
        ),
        relay=tuple(sorted(outside(mesh, world), key=str)) if world.isolated else None,
        services=planned_services(mesh, world, node.name, secret) if node.runs else (),
    )


def planned_proxies(mesh: Mesh, world: World, node: str) -> tuple[PlannedProxy, ...]:
    """The Envoys of the node of this name. Development certificates are for the machine of ``up`` alone."""
    return tuple(
        PlannedProxy(
            proxy.id,
            proxy.role,
            proxy.name,
            proxy.namespace,
            proxy.identity.uri,
            tuple(one for one in credentials(mesh, proxy, world) if one.development_dns is None or node == LOCAL_NODE),
            proxy.id in world.isolated,
            _redirection(world, proxy.id),
        )
        for proxy in mesh.proxies
        if proxy.node == node
    )


def _redirection(world: World, proxy_id: str) -> Redirection | None:
    connections, names = (world.address(proxy_id, purpose, 0) for purpose in ("capture", "dns"))
    return Redirection(connections.port, names.port) if connections is not None and names is not None else None


def credentials(mesh: Mesh, proxy: Proxy, world: World | None = None) -> Iterator[PlannedCredential]:
    """What a gateway's servers name, and what a client needs. A server's without a Secret is for development."""
    own = (*client_credentials(mesh, proxy), *login_credentials(mesh, proxy, world or World()))
    planned = {one.name: one for one in own}
    if proxy.role is Role.GATEWAY:
        planned |= {one.name: one for one in server_credentials(mesh, proxy, planned.keys(), world)}
    yield from planned.values()


_VARIABLE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


def expand(written: str, variables: Mapping[str, str]) -> str:
    """Kubernetes' ``$(NAME)``: an unknown name stays as it is, ``$$`` is one ``$``."""
    return _VARIABLE.sub(lambda m: "$" if m[1] is None else variables.get(m[1], m[0]), written)


def _planned_workload(mesh: Mesh, world: World, workload: Workload, node: Node) -> PlannedWorkload:
    command = workload.command
    assert command is not None
    env = workload_environment(mesh, world, workload)
    variables = {"PYTHON": node.python, **env}
    for name, value in command.env.items():
        variables[name] = env[name] = expand(value, variables)
    return PlannedWorkload(
        proxy=sidecar_id(workload),
        name=workload.name,
        namespace=workload.namespace,
        argv=tuple(expand(word, variables) for word in command.argv),
        env=env,
        working_directory=command.working_directory,
        listens=tuple(_listens(mesh, world, workload)),
        isolated=sidecar_id(workload) in world.isolated,
        redirection=_redirection(world, sidecar_id(workload)),
    )


def _listens(mesh: Mesh, world: World, workload: Workload) -> Iterator[Address]:
    """Where the sidecar sends what comes for the program."""
    for port in mesh.inbound_ports(workload):
        if port.app_port is not None:
            yield Address(workload.address, port.app_port)
        elif (given := world.address(sidecar_id(workload), "app", port.number)) is not None:
            yield given


def workload_environment(mesh: Mesh, world: World, workload: Workload) -> dict[str, str]:
    """What a program of this machine is told: its own ports, the proxy for its calls, its declared upstreams."""
    proxy_id = sidecar_id(workload)
    env: dict[str, str] = {}
    for position, port in enumerate(mesh.inbound_ports(workload)):
        app = world.address(proxy_id, "app", port.number)
        number = port.app_port if port.app_port is not None else app and app.port
        if number is not None:
            env[f"PORT_{_variable(port.name)}"] = str(number)
            if position == 0:
                env["PORT"] = str(number)
    outbound = world.address(proxy_id, "outbound", 0)
    credential = world.outbound_credentials.get(proxy_id)
    if outbound is not None and credential is not None:
        url = f"http://w:{credential}@{outbound}"
        env["http_proxy"] = env["HTTP_PROXY"] = url
        # By CONNECT, unread, but logged, and refused where only registered hosts may be called.
        env["https_proxy"] = env["HTTPS_PROXY"] = url
        # In a network of its own there is no way but the proxy.
        past = () if world.is_isolated(proxy_id) else workload.no_proxy
        env["no_proxy"] = env["NO_PROXY"] = ",".join(("localhost,127.0.0.1,::1", *past))
    workload_api = world.address(proxy_id, "workload-api", 0)
    if workload_api is not None:
        env["SPIFFE_ENDPOINT_SOCKET"] = str(workload_api)
    for index, upstream in enumerate(workload.upstreams):
        address = world.address(proxy_id, "upstream", index)
        if address is not None:
            env[f"UPSTREAM_{_variable(upstream.host)}_{upstream.port}"] = str(address)
    return env


def _variable(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", name).upper()
