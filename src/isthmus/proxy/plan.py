"""The plan: what the control plane tells one node to run. Plain values with a JSON form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from isthmus.model.decision import DecisionService
from isthmus.model.probe import Probe, probe_from_json, probe_to_json
from isthmus.model.proxy import Role
from isthmus.model.registration import Selectors
from isthmus.model.world import Address


@dataclass(frozen=True, slots=True)
class PlannedCredential:
    """A certificate, or the CAs of peers: ``credential:NS/NAME``, ``credential-ca:NS/NAME``, or files of the machine.

    ``version`` changes with its content. ``development_dns``: the agent makes the key itself and asks our CA for a
    certificate of these names; None: the control plane has it from a Secret.
    """

    name: str
    version: str
    development_dns: tuple[str, ...] | None = None
    hosts: tuple[str, ...] = ()
    """TLS server names under which Envoy asks for it; before the first of them is asked for it is not got."""
    at_once: bool = True
    """Whether it is wanted under its own name, too, and so from the beginning."""


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """Who may speak for a trust domain: root certificates, PEM, one an element. Bundles are never merged."""

    trust_domain: str
    roots: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    """Other names of the trust domain, for which the same roots speak."""
    jwt_keys: tuple[str, ...] = ()
    """What its JWT-SVIDs are proved by: public JWKs with their ``kid``, as JSON."""
    lists: tuple[str, ...] = ()
    """Of each of its signers the certificates that were revoked (CRL, PEM); none: peers are verified by no list."""

    @property
    def version(self) -> str:
        """Of what proxies have of it."""
        return hashlib.sha256("".join((*self.roots, *self.aliases, *self.lists)).encode()).hexdigest()[:16]


def own_roots(trust: tuple[TrustBundle, ...]) -> bytes:
    """All roots of the own trust domain, PEM."""
    return "".join(trust[0].roots).encode()


def trust_version(trust: tuple[TrustBundle, ...]) -> str:
    """Of the content of all bundles."""
    content = " ".join(f"{bundle.trust_domain} {bundle.version}" for bundle in trust)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Redirection:
    """To which ports of its network's loopback a program's TCP connections and its questions to DNS are redirected."""

    connections: int
    names: int


@dataclass(frozen=True, slots=True)
class PlannedProxy:
    """One Envoy of this node. ``identity``: its SPIFFE ID. ``isolated``: in a network of its own, with its program."""

    id: str
    role: Role
    name: str
    namespace: str
    identity: str
    credentials: tuple[PlannedCredential, ...] = ()
    isolated: bool = False
    redirection: Redirection | None = None
    """Of the network that is its own; None: its program calls by the explicit proxy alone."""


@dataclass(frozen=True, slots=True)
class PlannedWorkload:
    """One program of this node, beside the sidecar ``proxy``. ``env`` is added to the supervisor's own environment.

    ``env`` holds the credential of the outbound proxy, so no repr shows it.
    """

    proxy: str
    name: str
    namespace: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    working_directory: str
    listens: tuple[Address, ...] = ()
    """Where the program is expected to take connections."""
    isolated: bool = False
    redirection: Redirection | None = None
    """As its sidecar's."""
    probe: Probe | None = None
    """Of a program on another machine: how its node finds out whether it is well."""


@dataclass(frozen=True, slots=True)
class PlannedService:
    """One process of this node that answers its Envoys' questions: ``module``, told ``settings`` (JSON).

    ``settings`` may hold secrets: they travel as the plan does, and to the process by its standard input.
    """

    service: DecisionService
    index: int
    module: str
    settings: str = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.service.value}-{self.index}"


@dataclass(frozen=True, slots=True)
class PlannedRegistration:
    """Processes of this node that meet ``selectors`` may have ``identity`` (a SPIFFE ID) of the Workload API."""

    identity: str
    selectors: Selectors
    svid_ttl_seconds: int
    jwt_audiences: tuple[str, ...] | None = None
    """None: JWT-SVIDs for anybody."""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one node runs. Two plans of one ``version`` are the same; a new version need not be a higher one."""

    version: int
    node: str
    trust_domain: str
    ads: Address
    """The control plane's port: ADS and certificates, over mutual TLS."""
    control_plane_id: str
    enrol_socket: str
    svid_ttl_seconds: int
    proxies: tuple[PlannedProxy, ...] = ()
    workloads: tuple[PlannedWorkload, ...] = ()
    relay: tuple[Address, ...] | None = None
    """Where isolated sidecars may go by way of the relay; None: there are none, nor a relay."""
    registrations: tuple[PlannedRegistration, ...] = ()
    programs: tuple[tuple[str, int], ...] = ()
    """Sidecars (by id) and the processes that hold them from outside: those of ``isthmus run``."""
    services: tuple[PlannedService, ...] = ()
    bundles: tuple[str, ...] = ()
    """Digests of the Rego bundles that these decide by: another machine fetches what it lacks before it goes by it."""
    trust: tuple[TrustBundle, ...] = ()
    """What proxies trust, their own trust domain's first: every root, those that do not sign yet or any more too."""

    def for_agent(self) -> Plan:
        """Without the programs and the decision services: the agent has no business with what those are told."""
        return replace(self, workloads=(), services=())


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values: every field under its own name, ``ads`` as {host, port}."""
    return {
        "version": plan.version,
        "node": plan.node,
        "trust_domain": plan.trust_domain,
        "ads": {"host": plan.ads.host, "port": plan.ads.port},
        "control_plane_id": plan.control_plane_id,
        "enrol_socket": plan.enrol_socket,
        "svid_ttl_seconds": plan.svid_ttl_seconds,
        "proxies": [_proxy_to_json(proxy) for proxy in plan.proxies],
        "workloads": [
            {
                "proxy": workload.proxy,
                "name": workload.name,
                "namespace": workload.namespace,
                "argv": list(workload.argv),
                "env": dict(workload.env),
                "working_directory": workload.working_directory,
                "listens": [{"host": at.host, "port": at.port} for at in workload.listens],
                "isolated": workload.isolated,
                "redirection": _redirection_to_json(workload.redirection),
                "probe": None if workload.probe is None else probe_to_json(workload.probe),
            }
            for workload in plan.workloads
        ],
        "relay": None if plan.relay is None else [{"host": to.host, "port": to.port} for to in plan.relay],
        "registrations": [asdict(registration) for registration in plan.registrations],
        "programs": [list(program) for program in plan.programs],
        "trust": [asdict(bundle) for bundle in plan.trust],
        "services": [
            {"service": one.service.value, "index": one.index, "module": one.module, "settings": one.settings}
            for one in plan.services
        ],
        "bundles": list(plan.bundles),
    }


def plan_version(plan: Plan) -> int:
    """Of its content, so that the plans of two control plane processes, one after the other, are told apart."""
    content = json.dumps(to_json(replace(plan, version=0)), sort_keys=True).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=6).digest())


def _proxy_to_json(proxy: PlannedProxy) -> dict[str, Any]:
    return {
        "id": proxy.id,
        "role": proxy.role.value,
        "name": proxy.name,
        "namespace": proxy.namespace,
        "identity": proxy.identity,
        "credentials": [
            {
                "name": credential.name,
                "version": credential.version,
                "development_dns": None if credential.development_dns is None else list(credential.development_dns),
                "hosts": list(credential.hosts),
                "at_once": credential.at_once,
            }
            for credential in proxy.credentials
        ],
        "isolated": proxy.isolated,
        "redirection": _redirection_to_json(proxy.redirection),
    }


def _redirection_to_json(redirection: Redirection | None) -> list[int] | None:
    return None if redirection is None else [redirection.connections, redirection.names]


def _redirection_from_json(data: list[int] | None) -> Redirection | None:
    return None if data is None else Redirection(*data)


def from_json(value: str | bytes | dict[str, Any]) -> Plan:
    """Read what :func:`to_json` made. Raises ValueError for anything else."""
    try:
        data = value if isinstance(value, dict) else json.loads(value)
        return Plan(
            version=data["version"],
            node=data["node"],
            trust_domain=data["trust_domain"],
            ads=Address(data["ads"]["host"], data["ads"]["port"]),
            control_plane_id=data["control_plane_id"],
            enrol_socket=data["enrol_socket"],
            svid_ttl_seconds=data["svid_ttl_seconds"],
            proxies=tuple(_proxy_from_json(proxy) for proxy in data["proxies"]),
            workloads=tuple(
                PlannedWorkload(
                    proxy=workload["proxy"],
                    name=workload["name"],
                    namespace=workload["namespace"],
                    argv=tuple(workload["argv"]),
                    env=dict(workload["env"]),
                    working_directory=workload["working_directory"],
                    listens=tuple(Address(at["host"], at["port"]) for at in workload["listens"]),
                    isolated=workload["isolated"],
                    redirection=_redirection_from_json(workload["redirection"]),
                    probe=None if workload["probe"] is None else probe_from_json(workload["probe"]),
                )
                for workload in data["workloads"]
            ),
            relay=None if data["relay"] is None else tuple(Address(to["host"], to["port"]) for to in data["relay"]),
            trust=tuple(
                TrustBundle(
                    bundle["trust_domain"],
                    tuple(bundle["roots"]),
                    tuple(bundle["aliases"]),
                    tuple(bundle["jwt_keys"]),
                    tuple(bundle["lists"]),
                )
                for bundle in data["trust"]
            ),
            registrations=tuple(_registration_from_json(one) for one in data["registrations"]),
            programs=tuple((sidecar, pid) for sidecar, pid in data["programs"]),
            services=tuple(
                PlannedService(DecisionService(one["service"]), one["index"], one["module"], one["settings"])
                for one in data["services"]
            ),
            bundles=tuple(data["bundles"]),
        )
    except (KeyError, TypeError) as broken:
        # Not the data itself: it holds the workloads' environment.
        raise ValueError(f"not a plan: {type(broken).__name__} {broken}") from None


def _proxy_from_json(data: dict[str, Any]) -> PlannedProxy:
    return PlannedProxy(
        id=data["id"],
        role=Role(data["role"]),
        name=data["name"],
        namespace=data["namespace"],
        identity=data["identity"],
        credentials=tuple(
            PlannedCredential(
                name=credential["name"],
                version=credential["version"],
                development_dns=None if credential["development_dns"] is None else tuple(credential["development_dns"]),
                hosts=tuple(credential["hosts"]),
                at_once=credential["at_once"],
            )
            for credential in data["credentials"]
        ),
        isolated=data["isolated"],
        redirection=_redirection_from_json(data["redirection"]),
    )


def _registration_from_json(data: dict[str, Any]) -> PlannedRegistration:
    audiences = data["jwt_audiences"]
    return PlannedRegistration(
        identity=data["identity"],
        selectors=Selectors(**data["selectors"]),
        svid_ttl_seconds=data["svid_ttl_seconds"],
        jwt_audiences=None if audiences is None else tuple(audiences),
        hint=data["hint"],
    )
