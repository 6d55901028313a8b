"""The plan: what the control plane tells one node to run. Plain values with a JSON form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from isthmus.model.proxy import Role
from isthmus.model.world import Address


@dataclass(frozen=True, slots=True)
class PlannedCredential:
    """One certificate, or client CA bundle, of a gateway: ``credential:NS/NAME`` or ``credential-ca:NS/NAME``.

    ``version`` changes with its content. ``development_dns``: the agent makes the key itself and asks our CA for a
    certificate of these names; None: the control plane has it from a Secret.
    """

    name: str
    version: str
    development_dns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PlannedProxy:
    """One Envoy of this node. ``identity``: its SPIFFE ID."""

    id: str
    role: Role
    name: str
    namespace: str
    identity: str
    credentials: tuple[PlannedCredential, ...] = ()


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

    def for_agent(self) -> Plan:
        """Without the programs: the agent has no business with their environment."""
        return replace(self, workloads=())


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
            }
            for workload in plan.workloads
        ],
    }


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
            }
            for credential in proxy.credentials
        ],
    }


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
                )
                for workload in data["workloads"]
            ),
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
            )
            for credential in data["credentials"]
        ),
    )
