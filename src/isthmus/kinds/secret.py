"""``v1`` Secret: its keys, and whether its certificates are ones. Values leave this module by ``secret_bytes`` only."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography import x509

from isthmus.config.decode import Reader, Unreadable, fail, noted, optional, record, text
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Origin, Report, Severity
from isthmus.kinds.shape.certificate import (
    authority_oddities,
    chain_oddities,
    common_name,
    is_nameless,
    list_oddity,
    must_staple,
    name_of,
    pair_problem,
    read_certificates,
    read_lists,
)
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.server_tls import INVALID_CREDENTIAL
from isthmus.kinds.shape.support import ENVELOPE
from isthmus.model.credential import CA_KEYS, CERTIFICATE_KEYS, CRL_KEYS
from isthmus.model.lifetime import Lasting, Lifetime
from isthmus.model.mesh import Mesh, SecretRef

ODD_CHAIN = Code(
    "ISM2242",
    Severity.WARNING,
    "A certificate chain that clients may refuse",
    'Secret "{name}", {key}: {oddity}',
    what="The chain has a CA's certificate as its leaf, or certificates that do not sign one another in order.",
    why="Envoy shows the chain as it is. Which clients take it depends on their TLS library.",
    example="tls.crt: leaf, root, intermediate   # the intermediate signed the leaf",
    fix="Put the leaf first, then each certificate's signer; have the leaf issued without CA:TRUE.",
)
ODD_BUNDLE = Code(
    "ISM2243",
    Severity.WARNING,
    "A bundle of client CAs that is odd",
    'Secret "{name}", {key}: {oddity}',
    what="The bundle has no CA certificate at all, or two CAs of one name with different keys.",
    why="It lets in fewer than it seems to, or those of a CA that was to be replaced.",
    example="ca.crt: the client's own certificate",
    fix="Give the CA that signs the clients' certificates; take the CA out that is not meant, or rename it.",
)
ODD_LIST = Code(
    "ISM2244",
    Severity.WARNING,
    "A CA without its list of revoked certificates",
    'Secret "{name}", {key}: {oddity}',
    what="There is a list of revoked certificates, and it is not of this CA.",
    why="Once there is any list, Envoy refuses every chain with a certificate whose CA has none.",
    example="ca.crt: CAs A and B\nca.crl: the list of A",
    fix="Add the lists of all CAs, intermediates too, one after the other.",
)

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
        problem = pair_problem(values.get(certificate), values.get(key), certificate, key)
        if problem is not None:
            report.add(INVALID_CREDENTIAL, _place(resource, certificate), name=resource.name, reason=problem)
            values.pop(certificate, None)
            values.pop(key, None)
    _drop_unusable(resource, values, report)
    _report_oddities(resource, values, report)
    digest = hashlib.sha256()
    for name in (*(name for pair in CERTIFICATE_KEYS for name in pair), *CA_KEYS, *CRL_KEYS):
        # Only what is handed to proxies: a digest of a password could be guessed from.
        digest.update(f"{name}={len(values.get(name, b''))}:".encode() + values.get(name, b""))
    return SecretRef(
        name=resource.name,
        namespace=resource.namespace,
        keys=frozenset(values),
        digest=digest.hexdigest(),
        origin=resource.origin,
        lifetimes=tuple(_lifetimes(resource, values)),
        must_staple=any(must_staple(_read(values, name)[:1]) for name, _ in CERTIFICATE_KEYS),
        nameless=any(is_nameless(leaf) for name, _ in CERTIFICATE_KEYS for leaf in _read(values, name)[:1]),
    )


def _drop_unusable(resource: Resource[SecretSpec], values: dict[str, bytes], report: Report) -> None:
    """CAs and lists that are none. A CA beside a list that cannot be read is not used without the list."""
    authorities = [name for name in CA_KEYS if name in values]
    for name in authorities:
        if read_certificates(values[name]) is None:
            reason = f"{name} is not a PEM certificate"
            report.add(INVALID_CREDENTIAL, _place(resource, name), name=resource.name, reason=reason)
            del values[name]
    for name in CRL_KEYS:
        # In a Secret of something else "crl" may be anybody's name for anything.
        if name in values and (authorities or name == CRL_KEYS[0]) and read_lists(values[name]) is None:
            reason = f"{name} is not a PEM list of revoked certificates (X509 CRL)"
            report.add(INVALID_CREDENTIAL, _place(resource, name), name=resource.name, reason=reason)
            for unusable in (name, *authorities):
                values.pop(unusable, None)


def _report_oddities(resource: Resource[SecretSpec], values: Mapping[str, bytes], report: Report) -> None:
    """What can be used, and is probably not what was meant."""
    for name, _ in CERTIFICATE_KEYS:
        for oddity in chain_oddities(_read(values, name)) if name in values and _read(values, name) else ():
            report.add(ODD_CHAIN, _place(resource, name), name=resource.name, key=name, oddity=oddity)
    for name in CA_KEYS:
        authorities = _read(values, name)
        for oddity in authority_oddities(authorities) if authorities else ():
            report.add(ODD_BUNDLE, _place(resource, name), name=resource.name, key=name, oddity=oddity)
        for key in CRL_KEYS:
            lists = read_lists(values.get(key, b""))
            oddity_of_list = list_oddity(lists, authorities) if lists and authorities else None
            if oddity_of_list is not None:
                report.add(ODD_LIST, _place(resource, key), name=resource.name, key=key, oddity=oddity_of_list)


def _read(values: Mapping[str, bytes], name: str) -> Sequence[x509.Certificate]:
    return read_certificates(values.get(name, b"")) or ()


def _lifetimes(resource: Resource[SecretSpec], values: Mapping[str, bytes]) -> Iterator[Lifetime]:
    def origin(key: str) -> Origin:
        return replace(resource.origin, source=_place(resource, key).source)

    for name, of in (
        *((chain, Lasting.CERTIFICATE) for chain, _ in CERTIFICATE_KEYS),
        *((ca, Lasting.CA) for ca in CA_KEYS),
    ):
        for one in _read(values, name):
            yield Lifetime(of, name_of(one), one.not_valid_before_utc, one.not_valid_after_utc, origin(name))
    for name in CRL_KEYS:
        for crl in read_lists(values.get(name, b"")) or ():
            if crl.next_update_utc is not None:
                issuer = common_name(crl.issuer)
                yield Lifetime(Lasting.CRL, issuer, crl.last_update_utc, crl.next_update_utc, origin(name))


def _pairs(spec: SecretSpec) -> list[tuple[str, str]]:
    """The names of the certificates and keys that it must have: "key" alone may be anybody's name for anything."""
    kubernetes, opaque = CERTIFICATE_KEYS
    pairs = [kubernetes] if spec.type == _TLS_TYPE or not spec.values.keys().isdisjoint(kubernetes) else []
    return pairs + ([opaque] if spec.values.keys() >= set(opaque) else [])


def _place(resource: Resource[SecretSpec], key: str) -> Node:
    plain = resource.root.get("stringData", key)
    return plain if plain is not None else resource.root.at("data", key)


KIND = Kind(
    name="Secret",
    api_versions=("v1",),
    spec=SPEC,
    apply=apply,
    about="A certificate with its key, or a CA, that a Gateway's credentialName names. Its bytes never enter the mesh.",
    whole_document=True,
)
