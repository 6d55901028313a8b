"""Receivers of telemetry that nothing can reach, or that would not be understood."""

from __future__ import annotations

from isthmus.diag import Code, Place, Report, Severity
from isthmus.kinds.shape.host import NOT_FOUND, hint
from isthmus.model.mesh import Mesh
from isthmus.model.telemetry import OpenTelemetry

NOT_HTTP2 = Code(
    "ISM2192",
    Severity.ERROR,
    "OTLP over gRPC to a port that does not speak HTTP/2",
    'provider "{name}" exports over gRPC, and port {port} of {host} is declared {protocol}: nothing will arrive',
    what="An opentelemetry provider without http names a port whose name or protocol is not that of gRPC or HTTP/2.",
    why="gRPC is HTTP/2: spoken to in HTTP/1.1, the receiver answers nothing.",
    example="ports: [{name: http, port: 4317}]   # of the Service of the receiver",
    fix="Name the port grpc (grpc-otlp), or export to the receiver's HTTP port, with http: {path: /v1/traces}.",
    stops=False,
)


def report_receivers(mesh: Mesh, report: Report) -> None:
    """IST0101 or ISM2192 at each opentelemetry provider whose receiver cannot be reached or understood."""
    for provider in mesh.settings.telemetry_providers:
        if not isinstance(provider, OpenTelemetry):
            continue
        service = mesh.services.get(provider.host)
        place = Place(provider.origin.source, provider.origin.ref)
        if service is None:
            report.add(NOT_FOUND, place, kind="service", name=provider.host, hint=hint(provider.host, mesh.services))
            continue
        port = service.port(provider.port)
        if port is None:
            known = ", ".join(str(one.number) for one in service.ports)
            name = f"{provider.host}:{provider.port}"
            report.add(NOT_FOUND, place, kind="port", name=name, hint=f" (it has {known})")
        elif provider.path is None and not port.protocol.is_http2:
            report.add(
                NOT_HTTP2,
                place,
                name=provider.name,
                port=provider.port,
                host=provider.host,
                protocol=port.protocol.value,
            )
