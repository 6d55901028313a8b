"""``v1`` Secret: its keys, and whether its certificates are ones. Values leave this module by ``secret_bytes`` only."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from isthmus.config.decode import Reader, Unreadable, fail, noted, optional, record, text
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Report
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.server_tls import INVALID_CREDENTIAL
from isthmus.kinds.shape.support import ENVELOPE
from isthmus.model.credential import CA_KEYS, CERTIFICATE_KEYS
from isthmus.model.mesh import Mesh, SecretRef

_TLS_TYPE = "kubernetes.io/tls"


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """``values`` and the Node, which holds the same, are left out of the repr."""

    at: Node = field(repr=False)
    type: str = ""
    data: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    string_data: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def values(self) -> Mapping[str, bytes]:
        """``stringData`` wins, as in Kubernetes."""
        return {**self.data, **self.string_data}


def _decoded(node: Node) -> bytes | None:
    try:
        return base64.b64decode(b"".join(_encoded(node).split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _encoded(node: Node) -> bytes:
    return b"" if node.value is None else str(node.value).encode()


def _values(node: Node, report: Report, *, base64_encoded: bool) -> dict[str, bytes]:
    """A map to strings whose faults are told without the values: they would stand in a log."""
    if not node.is_mapping:
        raise fail(report, node, "a mapping of names to strings is needed")
    values: dict[str, bytes] = {}
    for key, element in node.mapping.items():
        value = _decoded(element) if base64_encoded else _encoded(element)
        if not isinstance(element.value, str | None):
            fail(report, element, "a string is needed (what stands here is not shown)")
        elif value is None:
            fail(report, element, "this is not base64 (plain text goes under stringData)")
        else:
            values[key] = value
    if len(values) < len(node.mapping):
        raise Unreadable
    return values


_DATA: Reader[dict[str, bytes]] = Reader(
    "a map to base64", lambda node, report: _values(node, report, base64_encoded=True)
)
_STRING_DATA: Reader[dict[str, bytes]] = Reader(
    "a map to strings", lambda node, report: _values(node, report, base64_encoded=False)
)
SPEC = record(
    SecretSpec,
    *ENVELOPE,
    optional("type", text, "Opaque"),
    optional("data", _DATA, {}),
    optional("stringData", _STRING_DATA, {}),
    noted("immutable", "the business of Kubernetes"),
)


def secret_bytes(root: Node, key: str) -> bytes | None:
    """The value of ``key`` of the Secret whose document is ``root``, for an agent's channel only; None: it has none."""
    plain = root.get("stringData", key)
    if plain is not None:
        return _encoded(plain)
    encoded = root.get("data", key)
    return _decoded(encoded) if encoded is not None else None


def apply(resources: Sequence[Resource[SecretSpec]], mesh: Mesh, report: Report) -> Mesh:
    secrets = dict(mesh.secrets)
    for resource in resources:
        secret = _secret(resource, report)
        secrets[secret.key] = secret
    return replace(mesh, secrets=secrets)


def _secret(resource: Resource[SecretSpec], report: Report) -> SecretRef:
    """Keys whose values cannot be used are left out, so a gateway that needs them stays closed."""
    values = dict(resource.spec.values)
    for certificate, key in _pairs(resource.spec):
        problem = _pair_problem(values.get(certificate), values.get(key), certificate, key)
        if problem is not None:
            report.add(INVALID_CREDENTIAL, _place(resource, certificate), name=resource.name, reason=problem)
            values.pop(certificate, None)
            values.pop(key, None)
    for name in CA_KEYS:
        if name in values and _certificates(values[name]) is None:
            reason = f"{name} is not a PEM certificate"
            report.add(INVALID_CREDENTIAL, _place(resource, name), name=resource.name, reason=reason)
            del values[name]
    digest = hashlib.sha256()
    for name in (*(name for pair in CERTIFICATE_KEYS for name in pair), *CA_KEYS):
        # Only what is handed to proxies: a digest of a password could be guessed from.
        digest.update(f"{name}={len(values.get(name, b''))}:".encode() + values.get(name, b""))
    return SecretRef(
        name=resource.name,
        namespace=resource.namespace,
        keys=frozenset(values),
        digest=digest.hexdigest(),
        origin=resource.origin,
    )


def _pairs(spec: SecretSpec) -> list[tuple[str, str]]:
    """The names of the certificates and keys that it must have: "key" alone may be anybody's name for anything."""
    kubernetes, opaque = CERTIFICATE_KEYS
    pairs = [kubernetes] if spec.type == _TLS_TYPE or not spec.values.keys().isdisjoint(kubernetes) else []
    return pairs + ([opaque] if spec.values.keys() >= set(opaque) else [])


def _place(resource: Resource[SecretSpec], key: str) -> Node:
    plain = resource.root.get("stringData", key)
    return plain if plain is not None else resource.root.at("data", key)


def _certificates(pem: bytes) -> list[x509.Certificate] | None:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return None


def _pair_problem(certificate: bytes | None, key: bytes | None, certificate_name: str, key_name: str) -> str | None:
    if certificate is None or key is None:
        return f"it needs both {certificate_name} and {key_name}"
    chain = _certificates(certificate)
    if chain is None:
        return f"{certificate_name} is not a PEM certificate"
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return f"{key_name} is not a PEM private key without a password"
    wanted = chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != wanted:
        return f"{key_name} is not the key of {certificate_name}"
    return None


KIND = Kind(
    name="Secret",
    api_versions=("v1",),
    spec=SPEC,
    apply=apply,
    about="A certificate with its key, or a CA, that a Gateway's credentialName names. Its bytes never enter the mesh.",
    whole_document=True,
)
