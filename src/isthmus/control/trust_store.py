"""What trusts whom, and by which certificate it may end: for ``isthmus ca audit``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from isthmus.control.control_plane import ControlPlane
from isthmus.control.desired import credentials
from isthmus.diag import Ref
from isthmus.identity.describe import describe
from isthmus.kinds.secret import secret_bytes
from isthmus.model.credential import CA_KEYS, CERTIFICATE_KEYS
from isthmus.xds.secret import FILE_CERTIFICATE, FILE_ROOTS, ca_credential_name, credential_name

_CHAINS = tuple(chain for chain, _ in CERTIFICATE_KEYS)


def trust_stores(plane: ControlPlane) -> list[dict[str, Any]]:
    """Each store: ``name``, ``kind`` (``roots`` or ``certificate``), ``used_by`` (proxies), its ``certificates``.

    Files of a machine are named with their ``path`` and not read: they are the proxies' machine's.
    """
    used: dict[str, list[str]] = {}
    for proxy in plane.mesh.proxies:
        for credential in credentials(plane.mesh, proxy):
            used.setdefault(credential.name, []).append(proxy.id)
    return [*_federated(plane), *_secrets(plane, used), *_files(used)]


def _federated(plane: ControlPlane) -> Iterator[dict[str, Any]]:
    everyone = [proxy.id for proxy in plane.mesh.proxies]
    for bundle in plane.inputs.federated:
        yield _store(f"trust domain {bundle.trust_domain}", "roots", everyone, "".join(bundle.roots).encode())


def _secrets(plane: ControlPlane, used: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    compiled = plane.compiled.value
    for key, secret in plane.mesh.secrets.items():
        namespace, _, name = key.partition("/")
        resource = compiled.good.get(Ref("Secret", namespace, name)) if compiled is not None else None
        if resource is None:
            continue
        for kind, keys, served in (
            ("roots", CA_KEYS, ca_credential_name(namespace, name)),
            ("certificate", _CHAINS, credential_name(namespace, name)),
        ):
            found = (secret_bytes(resource.root, one) for one in keys if one in secret.keys)
            data = next((one for one in found if one is not None), None)
            if data is not None:
                yield _store(f"Secret {key}", kind, used.get(served, []), data)


def _files(used: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    for name, proxies in used.items():
        for prefix, kind in ((FILE_ROOTS, "roots"), (FILE_CERTIFICATE, "certificate")):
            if name.startswith(prefix):
                path = name.removeprefix(prefix).partition("~")[0]
                yield {**_store(f"file {path}", kind, proxies, b""), "path": path}


def _store(name: str, kind: str, used_by: list[str], data: bytes) -> dict[str, Any]:
    try:
        found = [describe(one).as_json() for one in x509.load_pem_x509_certificates(data)] if data else []
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        found = []
    return {
        "name": name,
        "kind": kind,
        "used_by": used_by,
        "certificates": found,
    }
