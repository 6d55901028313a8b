"""What another machine carries: told by the machine itself, within what it was let in for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import ip_address
from typing import Any

from isthmus.model.world import Address

LOCAL_NODE = "local"
"""The machine of the control plane. No other may have this name."""
NOBODY = ""
"""In place of a node: nobody carries the proxy."""
_NODE_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_DNS_LABEL = r"[A-Za-z0-9_](?:[-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*\.?")
_LONGEST_TEXT = 317
"""Characters: a label's key has 63 behind a DNS name of 253."""


class ScopeKind(Enum):
    GATEWAY = "gateway"
    SIDECAR = "sidecar"
    GROUP = "workload-group"


@dataclass(frozen=True, slots=True)
class Scope:
    """All that a node may be. ``name``: of the gateway's proxy, the service account, or the WorkloadGroup.

    ``labels``: those that the program of a SIDECAR may have; they put it behind Services. A group has its own.
    """

    kind: ScopeKind
    namespace: str
    name: str
    labels: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read what ``str`` of a scope wrote. Raises ValueError."""
        written, _, labels = text.partition("?")
        kind, _, rest = written.partition(":")
        namespace, slash, name = rest.partition("/")
        pairs = [label.partition("=") for label in labels.split("&") if label]
        if not (slash and namespace and name) or not all(key and equals for key, equals, _ in pairs):
            raise ValueError(f"not a scope: {text!r}")
        if pairs and kind != ScopeKind.SIDECAR.value:
            raise ValueError(f"labels are for the program of a sidecar: {text!r}")
        return cls(ScopeKind(kind), namespace, name, tuple(sorted((key, value) for key, _, value in pairs)))

    def __str__(self) -> str:
        labels = "&".join(f"{key}={value}" for key, value in self.labels)
        return f"{self.kind.value}:{self.namespace}/{self.name}" + (f"?{labels}" if labels else "")

    def allows(self, wanted: Scope) -> bool:
        """Whether a node that was let in as this may be ``wanted``: the same, with these labels or fewer."""
        return replace(wanted, labels=()) == replace(self, labels=()) and set(wanted.labels) <= set(self.labels)


@dataclass(frozen=True, slots=True)
class GatewayOffer:
    """A machine for the proxy of a gateway."""

    namespace: str
    name: str
    address: str
    """Declared ports are opened here, unless ``published`` says elsewhere."""
    runtime: str
    """The node's own folder of Unix sockets."""
    published: Mapping[int, Address] = field(default_factory=dict)
    control_plane: Address | None = None
    """As the machine calls it; None: it did not say."""

    @property
    def scope(self) -> Scope:
        return Scope(ScopeKind.GATEWAY, self.namespace, self.name)

    def place(self, declared: int) -> Address:
        """Where the declared port is opened."""
        return self.published.get(declared, Address(self.address, declared))


@dataclass(frozen=True, slots=True)
class OfferedPort:
    """``number``: where the sidecar listens, on the machine's address; ``app``: the program, on its loopback."""

    name: str
    number: int
    app: int


@dataclass(frozen=True, slots=True)
class SidecarOffer:
    """A machine with a program, and a sidecar before it. With ``group``, labels and account are the group's."""

    namespace: str
    service_account: str
    address: str
    runtime: str
    outbound: int
    """The loopback port that the program calls through."""
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[OfferedPort, ...] = ()
    group: str | None = None
    control_plane: Address | None = None
    """As the machine calls it; None: it did not say."""

    @property
    def scope(self) -> Scope:
        if self.group is not None:
            return Scope(ScopeKind.GROUP, self.namespace, self.group)
        return Scope(ScopeKind.SIDECAR, self.namespace, self.service_account, tuple(sorted(self.labels.items())))

    def app_port(self, number: int) -> int:
        """Where the program takes what comes for a port; of ports that it did not speak of, the same number."""
        return next((port.app for port in self.ports if port.number == number), number)


Offer = GatewayOffer | SidecarOffer


def node_name_problem(name: str) -> str | None:
    """Why ``name`` cannot be a node's; None if it can."""
    if not _NODE_NAME.fullmatch(name):
        return f'"{name}" is not a node\'s name: lower-case letters, digits and "-", up to 63'
    return f'"{name}" is the control plane\'s own machine' if name == LOCAL_NODE else None


def offer_to_json(offer: Offer) -> dict[str, Any]:
    """Every field under its own name; an address as its host and port."""
    if isinstance(offer, GatewayOffer):
        return {
            "gateway": {
                "namespace": offer.namespace,
                "name": offer.name,
                "address": offer.address,
                "runtime": offer.runtime,
                "published": [
                    {"declared": declared, "host": at.host, "port": at.port}
                    for declared, at in sorted(offer.published.items())
                ],
                "control_plane": _calls_to_json(offer.control_plane),
            }
        }
    return {
        "sidecar": {
            "namespace": offer.namespace,
            "service_account": offer.service_account,
            "address": offer.address,
            "runtime": offer.runtime,
            "outbound": offer.outbound,
            "labels": dict(offer.labels),
            "ports": [{"name": port.name, "number": port.number, "app": port.app} for port in offer.ports],
            "group": offer.group,
            "control_plane": _calls_to_json(offer.control_plane),
        }
    }


def _calls_to_json(to: Address | None) -> dict[str, Any] | None:
    return None if to is None else {"host": to.host, "port": to.port}


def _calls(data: dict[str, Any]) -> Address | None:
    to = data.get("control_plane")
    return None if to is None else Address(_host(to["host"]), _port(to["port"]))


def offer_from_json(value: object) -> Offer:
    """Read what :func:`offer_to_json` made. Raises ValueError for anything else."""
    try:
        if isinstance(value, dict) and "gateway" in value:
            return _gateway(value["gateway"])
        if isinstance(value, dict) and "sidecar" in value:
            return _sidecar(value["sidecar"])
    except (KeyError, TypeError, AttributeError) as broken:
        raise ValueError(f"not an offer: {type(broken).__name__} {broken}") from None
    raise ValueError("not an offer")


def _gateway(data: dict[str, Any]) -> GatewayOffer:
    return GatewayOffer(
        namespace=_text(data["namespace"]),
        name=_text(data["name"]),
        address=_ip(data["address"]),
        runtime=_folder(data["runtime"]),
        published={_port(one["declared"]): Address(_ip(one["host"]), _port(one["port"])) for one in data["published"]},
        control_plane=_calls(data),
    )


def _sidecar(data: dict[str, Any]) -> SidecarOffer:
    return SidecarOffer(
        namespace=_text(data["namespace"]),
        service_account=_text(data["service_account"]),
        address=_ip(data["address"]),
        runtime=_folder(data["runtime"]),
        outbound=_port(data["outbound"]),
        labels={_text(key): _text(value) for key, value in data["labels"].items()},
        ports=tuple(
            OfferedPort(_text(port["name"]), _port(port["number"]), _port(port["app"])) for port in data["ports"]
        ),
        group=None if data["group"] is None else _text(data["group"]),
        control_plane=_calls(data),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text is wanted, not {type(value).__name__}")
    # Halves of surrogate pairs are not printable either.
    if not value.isprintable() or len(value) > _LONGEST_TEXT:
        raise ValueError(f"{value[:_LONGEST_TEXT]!r} is not a printable text of at most {_LONGEST_TEXT} characters")
    return value


def _host(value: object) -> str:
    """As it is written: the machine's bootstraps say the same."""
    host = _text(value)
    if not _DNS_NAME.fullmatch(host):
        ip_address(host)
    return host


def _ip(value: object) -> str:
    return str(ip_address(_text(value)))


def _port(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ValueError(f"{value!r} is not a port")
    return value


def _folder(value: object) -> str:
    folder = _text(value)
    if not folder.startswith("/") or len(folder) > 100:
        raise ValueError("the folder of sockets is an absolute path of at most 100 characters")
    return folder
