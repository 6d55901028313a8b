"""What a workload's calls leave out of the mesh: Istio's annotations, as far as an explicit proxy can follow them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from isthmus.config.decode import INVALID_VALUE
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity

_PREFIX = "traffic.sidecar.istio.io/"
RANGES = f"{_PREFIX}excludeOutboundIPRanges"
PORTS = f"{_PREFIX}excludeOutboundPorts"
NO_CAPTURE = Code(
    "ISM2165",
    Severity.WARNING,
    "An annotation about captured traffic",
    'the annotation "{name}" has no effect: traffic is not captured here, programs call through an explicit proxy',
    what="A LocalWorkload has one of Istio's annotations about the capture of traffic that means nothing here.",
    why="Nothing that you wrote is ignored in silence. Of these annotations, two for excluded calls have a meaning.",
    example='annotations: {traffic.sidecar.istio.io/includeInboundPorts: "8080"}',
    fix=f"Take it out. {RANGES} and {PORTS} are followed.",
)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """``ranges``: addresses and CIDRs that the program is told to call without the proxy; ``ports``: where any host
    may be called through it, registered or not."""

    ranges: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()


def excluded(resource: Resource[Any], report: Report) -> Exclusion:
    """What the annotations of ``resource`` say; what is wrong with them is reported."""
    for name in resource.annotations:
        if name.startswith(_PREFIX) and name not in (RANGES, PORTS):
            report.add(NO_CAPTURE, resource.root.at("metadata", "annotations", name), name=name)
    return Exclusion(tuple(_ranges(resource, report)), tuple(_ports(resource, report)))


def _written(resource: Resource[Any], name: str) -> Iterator[str]:
    return (part.strip() for part in resource.annotations.get(name, "").split(",") if part.strip())


def _ranges(resource: Resource[Any], report: Report) -> Iterator[str]:
    for part in _written(resource, RANGES):
        try:
            network = ip_network(part, strict=False)
        except ValueError:
            _refuse(resource, RANGES, f'"{part}" is not an IP address or a CIDR range', report)
        else:
            # A single address is what every program understands in no_proxy; not all know ranges.
            yield str(network.network_address) if network.num_addresses == 1 else str(network)


def _ports(resource: Resource[Any], report: Report) -> Iterator[int]:
    for part in _written(resource, PORTS):
        if part.isdecimal() and 1 <= int(part) <= 65535:
            yield int(part)
        else:
            _refuse(resource, PORTS, f'"{part}" is not a port (1 to 65535)', report)


def _refuse(resource: Resource[Any], name: str, reason: str, report: Report) -> None:
    report.add(INVALID_VALUE, resource.root.at("metadata", "annotations", name), reason=reason)
