"""Files that DestinationRules and Gateways name for TLS and that cannot be read here."""

from __future__ import annotations

import os

from isthmus.analyze.check import Check, at, listed
from isthmus.diag import Code, Place, Report, Severity
from isthmus.model.gateway import ServerTls
from isthmus.model.mesh import Mesh
from isthmus.model.traffic_policy import ClientTls

NO_FILE = Code(
    "ISM5040",
    Severity.ERROR,
    "A certificate file that cannot be read",
    "{path} cannot be read on this machine: proxies here connect to nobody as this rule says",
    what="A DestinationRule's tls names a file that is not there, or that Isthmus may not read.",
    why="Without it a connection could not be verified, or would lack its certificate: it is not made.",
    example="tls: {mode: SIMPLE, caCertificates: /etc/certs/partner-ca.pem}   # no such file",
    fix="Put the file there; it is taken as soon as it is. Paths are of the machine that the proxies run on.",
    stops=False,
)


NO_SERVER_FILE = Code(
    "ISM5063",
    Severity.ERROR,
    "A gateway's certificate file that cannot be read",
    "{path} cannot be read on this machine: port {port} takes no connection for {hosts}",
    what="A Gateway's tls, or its ClientTrafficPolicy's, names a file that is not there, or that Isthmus may not read.",
    why="Without it the server could not prove who it is, or whom it lets in.",
    example="tls: {mode: SIMPLE, serverCertificate: /etc/certs/tls.crt, privateKey: /etc/certs/tls.key}   # no such",
    fix="Put the file there; it is taken as soon as it is. Paths are of the machine that the gateway runs on.",
    stops=False,
)


def run(mesh: Mesh, report: Report) -> None:
    for gateway in mesh.gateways:
        for server in gateway.servers:
            for path in _server_paths(server.tls) if server.tls is not None else ():
                if not os.access(path, os.R_OK):
                    hosts = listed(host.name for host in server.hosts)
                    report.add(NO_SERVER_FILE, at(server.origin), path=path, port=server.port, hosts=hosts)
    for tls in mesh.originations:
        for path in _paths(tls):
            if not os.access(path, os.R_OK) and tls.origin is not None:
                report.add(NO_FILE, Place(tls.origin.source, tls.origin.ref), path=path)


def _server_paths(tls: ServerTls) -> list[str]:
    own = [path for files in tls.files for path in (files.chain, files.key)]
    return [*own, *(path for path in (tls.ca_file, tls.validation.crl_file) if path is not None)]


def _paths(tls: ClientTls) -> list[str]:
    own = [tls.certificate.chain, tls.certificate.key] if tls.certificate is not None else []
    return [path for path in (tls.ca_file, tls.crl_file, *own) if path is not None]


CHECK = Check("tls-file", (NO_FILE, NO_SERVER_FILE), run)
