"""How a port is spoken to, by what its declaration says (Istio: "Protocol Selection")."""

from __future__ import annotations

from isthmus.diag import Code, Severity
from isthmus.model.cluster import Protocol

UNNAMED_PROTOCOL = Code(
    "IST0118",
    Severity.INFO,
    "Port name not under the naming convention",
    'port {number} ({name}) does not say its protocol: taken as HTTP; name it "http-...", "tcp-..." or set appProtocol',
    what="Neither appProtocol nor the port's name says which protocol is spoken on the port.",
    why="Istio sniffs the protocol; Isthmus takes the port as HTTP/1.1, which a database, for one, does not speak.",
    example="ports:\n  - {name: web, port: 80}",
    fix="Name the port <protocol>[-suffix] (http, http2, grpc, https, tls, tcp ...), or set appProtocol.",
)

_PROTOCOLS = {
    "http": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "grpc": Protocol.GRPC,
    "grpc-web": Protocol.GRPC,
    "https": Protocol.HTTPS,
    "tls": Protocol.TLS,
    "tcp": Protocol.TCP,
    "mongo": Protocol.TCP,
    "mysql": Protocol.TCP,
    "redis": Protocol.TCP,
    # appProtocol names of Kubernetes itself (KEP-3726).
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}
_TCP_PORTS = frozenset({25, 53, 3306, 27017})
"""Of servers that speak first or in their own way; Istio takes these ports as TCP unless told otherwise."""


def named_protocol(written: str) -> Protocol | None:
    """The protocol of that very name, in any case."""
    return _PROTOCOLS.get(written.lower())


def port_protocol(app_protocol: str | None, port_name: str, number: int) -> Protocol | None:
    """The protocol of a Service's port: appProtocol, else what its name begins with; None: nothing said."""
    written = (app_protocol if app_protocol is not None else port_name).lower()
    if written.startswith("grpc-web"):
        return Protocol.GRPC
    return (
        _PROTOCOLS.get(written)
        or _PROTOCOLS.get(written.partition("-")[0])
        or (Protocol.TCP if number in _TCP_PORTS else None)
    )
