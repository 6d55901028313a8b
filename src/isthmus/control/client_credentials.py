"""What a proxy needs of its agent as the client of servers outside the mesh (DestinationRule, ``tls``). Pure."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.model.credential import find_client_credential
from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Proxy
from isthmus.model.traffic_policy import ClientTls, TlsMode
from isthmus.proxy.plan import PlannedCredential
from isthmus.xds.secret import ca_credential_name, credential_name, file_certificate_name, file_roots_name

_FILES = "files"
"""The version of what the agent reads from files: it watches them itself."""


def client_credentials(mesh: Mesh, proxy: Proxy) -> Iterator[PlannedCredential]:
    """Certificates and roots for what DestinationRules say of TLS; a Secret is for proxies of its namespace alone."""
    for tls in sorted(mesh.originations, key=repr):
        if tls.credential is None:
            yield from _of_files(tls)
        else:
            yield from _of_secrets(mesh, proxy.namespace, tls, tls.credential)


def _of_files(tls: ClientTls) -> Iterator[PlannedCredential]:
    if not tls.skip_verify:
        yield PlannedCredential(file_roots_name(tls.ca_file, tls.crl_file), _FILES)
    if tls.mode is TlsMode.MUTUAL and tls.certificate is not None:
        yield PlannedCredential(file_certificate_name(tls.certificate.chain, tls.certificate.key), _FILES)


def _of_secrets(mesh: Mesh, namespace: str, tls: ClientTls, name: str) -> Iterator[PlannedCredential]:
    held = find_client_credential(mesh.secrets, namespace, name)
    if not held.serves(tls.mode is TlsMode.MUTUAL, verify=not tls.skip_verify):
        return
    if tls.mode is TlsMode.MUTUAL and held.certificate is not None:
        digest = mesh.secrets[f"{namespace}/{held.certificate}"].digest
        yield PlannedCredential(credential_name(namespace, held.certificate), digest)
    if held.ca is not None and not tls.skip_verify:
        yield PlannedCredential(ca_credential_name(namespace, held.ca), mesh.secrets[f"{namespace}/{held.ca}"].digest)
