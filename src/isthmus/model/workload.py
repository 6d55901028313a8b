"""Workloads: programs with an identity, whose sidecars this machine may run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from isthmus.diag import Origin
from isthmus.model.offer import LOCAL_NODE
from isthmus.model.probe import Probe


@dataclass(frozen=True, slots=True)
class WorkloadPort:
    """A port of a workload: ``number`` is what services and policies mean by it.

    The program itself listens on ``app_port``: the same number if None and a WorkloadEntry declares it, a free
    port of the system, told to the program as ``PORT``, if None and a LocalWorkload declares it.
    """

    name: str
    number: int
    app_port: int | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service that a program reaches at a local address, because it knows no HTTP proxy."""

    host: str
    port: int
    bind: str
    """``address:port`` to listen on; port 0 asks the system for one."""
    origin: Origin


@dataclass(frozen=True, slots=True)
class Command:
    """A program that ``up`` starts beside its sidecar."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    working_directory: str


class Placement(Enum):
    """Where a workload runs, and so whether it gets a sidecar here."""

    LOCAL = "local"
    """On this machine: a loopback address, or started by us."""
    NODE = "node"
    """On a machine that joined: behind a sidecar of ours there."""
    REMOTE = "remote"
    """Elsewhere: reached at its address, without a sidecar of ours."""


class Network(Enum):
    """Whose network a program of this machine is in."""

    HOST = "Host"
    """The machine's: its port is open to every local process."""
    ISOLATED = "Isolated"
    """One of its own, shared with its sidecar alone; where the system does not allow that, the machine's."""


class Interception(Enum):
    """How a program's own calls come to its sidecar (Istio: ``sidecar.istio.io/interceptionMode``)."""

    NONE = "NONE"
    """It asks the explicit proxy, or calls its declared upstreams."""
    REDIRECT = "REDIRECT"
    """Besides, every TCP connection of a network of its own is redirected there, and names are answered there."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One instance of a program."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    service_account: str
    address: str
    ports: tuple[WorkloadPort, ...]
    placement: Placement
    origin: Origin
    command: Command | None = None
    upstreams: tuple[Upstream, ...] = ()
    weight: int = 1
    mutual_tls: bool = True
    """Whether its proxy takes mutual TLS: always here, label ``security.istio.io/tlsMode: istio`` elsewhere."""
    network: Network = Network.HOST
    interception: Interception = Interception.NONE
    no_proxy: tuple[str, ...] = ()
    """Addresses and CIDRs that the program is told to call itself, past its sidecar."""
    direct_ports: tuple[int, ...] = ()
    """Ports at which it may call any host through its sidecar, also where only registered hosts may be called."""
    node: str = LOCAL_NODE
    """The machine that its sidecar runs on."""
    probe: Probe | None = None
    """How that machine finds out whether the program is well; None: it is while it is there."""

    def port_named(self, name: str) -> WorkloadPort | None:
        return next((port for port in self.ports if port.name == name), None)


@dataclass(frozen=True, slots=True)
class WorkloadGroup:
    """What the workloads of one group have in common."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    ports: Mapping[str, int]
    service_account: str
    weight: int
    probe: Probe | None
    origin: Origin
