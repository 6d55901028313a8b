"""TLS of a Gateway's server: what is written, and the credentials that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from isthmus.config.decode import Reader, boolean, checked, enum_of, list_of, narrows, optional, record, text
from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.support import refused
from isthmus.model.credential import CA_KEYS, CERTIFICATE_KEYS
from isthmus.model.gateway import ServerTls, ServerTlsMode, TlsVersion
from isthmus.model.mesh import Mesh, SecretRef

DEVELOPMENT_CERTIFICATE = Code(
    "ISM2110",
    Severity.WARNING,
    "No certificate for a gateway: a development certificate stands in",
    'no Secret "{name}" in namespace "{namespace}": "isthmus up" serves a certificate of its own CA',
    what="The Secret that credentialName names is not among the manifests.",
    why="Clients outside do not trust the mesh's CA. Only for development: isthmus serve never does this.",
    example="tls: {mode: SIMPLE, credentialName: prod-tls}   # no Secret prod-tls",
    fix="Add the Secret, with tls.crt and tls.key, in the Gateway's namespace.",
)
INVALID_CREDENTIAL = Code(
    "IST0161",
    Severity.ERROR,
    "Invalid gateway credential",
    'the credential "{name}" is invalid: {reason}',
    what="A Secret that is, or should be, a gateway's certificate cannot be used as one.",
    why="The server that needs it is not opened: it could not prove who it is, or whom it lets in.",
    example="kind: Secret\ntype: kubernetes.io/tls\ndata: {tls.crt: ...}   # no tls.key",
    fix="Give a PEM certificate and its own private key (tls.crt, tls.key), and ca.crt for MUTUAL.",
    stops=False,
)
SERVER_NOT_OPENED = Code(
    "ISM2111",
    Severity.ERROR,
    "A gateway's server is not opened",
    "the server on port {port} is not opened: {reason}",
    what="A server asks for something that this version of Isthmus does not do, or lacks what makes it safe.",
    why="An open port with less protection than its manifest says is worse than a closed one.",
    example="tls: {mode: MUTUAL, credentialName: prod-tls}   # and no CA for the clients' certificates",
    fix="Follow the message.",
    stops=False,
)

_CIPHERS = frozenset(
    f"{start}{end}"
    for start in ("ECDHE-ECDSA-", "ECDHE-RSA-", "")
    for end in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA")
) | {"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"}
"""What Envoy takes for TLS 1.2 (BoringSSL), without 3DES."""


class TlsModeWritten(Enum):
    PASSTHROUGH = "PASSTHROUGH"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    AUTO_PASSTHROUGH = "AUTO_PASSTHROUGH"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"
    OPTIONAL_MUTUAL = "OPTIONAL_MUTUAL"


class _Version(Enum):
    TLS_AUTO = None
    TLSV1_0 = "TLSV1_0"
    TLSV1_1 = "TLSV1_1"
    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


@dataclass(frozen=True, slots=True)
class ServerTlsSpec:
    at: Node
    https_redirect: bool
    mode: TlsModeWritten | None
    credential_name: str | None
    min_protocol_version: _Version
    max_protocol_version: _Version
    cipher_suites: tuple[str, ...]


def _secure(version: _Version) -> str | None:
    weak = version in (_Version.TLSV1_0, _Version.TLSV1_1)
    return f"{version.name} is broken: TLSV1_2 is the least" if weak else None


def _ordered(tls: ServerTlsSpec) -> str | None:
    limits = (tls.min_protocol_version, tls.max_protocol_version)
    return "minProtocolVersion is above maxProtocolVersion" if limits == (_Version.TLSV1_3, _Version.TLSV1_2) else None


def _credential_problem(name: str) -> str | None:
    if "/" in name or ":" in name:
        return "a credentialName is the name of a Secret in the Gateway's own namespace"
    return None


def _cipher_problem(name: str) -> str | None:
    return None if name in _CIPHERS else f'"{name}" is not a cipher suite that Envoy takes'


_VERSION: Reader[_Version] = checked(enum_of(_Version), _secure)
_NO_CERTIFICATE = "the server has no certificate"
SERVER_TLS = checked(
    record(
        ServerTlsSpec,
        optional("httpsRedirect", boolean, False),
        optional("mode", enum_of(TlsModeWritten), note="SIMPLE, MUTUAL or PASSTHROUGH; of any other mode: not opened"),
        optional("credentialName", checked(text, _credential_problem)),
        optional("minProtocolVersion", _VERSION, _Version.TLS_AUTO, note="at least TLSV1_2, the default"),
        optional("maxProtocolVersion", _VERSION, _Version.TLS_AUTO),
        optional("cipherSuites", list_of(checked(text, _cipher_problem)), ()),
        refused("credentialNames", _NO_CERTIFICATE),
        refused("tlsCertificates", _NO_CERTIFICATE),
        refused("serverCertificate", _NO_CERTIFICATE),
        refused("privateKey", _NO_CERTIFICATE),
        narrows("caCertificates"),
        narrows("caCertCredentialName"),
        narrows("caCrl"),
        narrows("subjectAltNames"),
        narrows("verifyCertificateSpki"),
        narrows("verifyCertificateHash"),
        refused("insecureSkipVerify", "clients' certificates are verified"),
    ),
    _ordered,
)


def passes_through(tls: ServerTlsSpec) -> bool:
    """Whether TLS is not ended at the gateway. No mode means so, as in Istio (ServerTLSSettings.TLSmode, 0)."""
    return tls.mode in (None, TlsModeWritten.PASSTHROUGH)


def ends_tls(tls: ServerTlsSpec) -> bool:
    """Whether anything is set that only who ends TLS needs."""
    versions = (tls.min_protocol_version, tls.max_protocol_version)
    return bool(tls.credential_name or tls.cipher_suites) or versions != (_Version.TLS_AUTO, _Version.TLS_AUTO)


def server_tls(tls: ServerTlsSpec, port: int, namespace: str, mesh: Mesh, report: Report) -> ServerTls | None:
    """The TLS of a server that ends it; None, and why, if the server must stay closed."""
    if tls.mode not in (TlsModeWritten.SIMPLE, TlsModeWritten.MUTUAL):
        reason = f"TLS mode {tls.mode.name if tls.mode else 'PASSTHROUGH'} is not supported yet"
        report.add(SERVER_NOT_OPENED, tls.at.at("mode"), port=port, reason=reason)
        return None
    if tls.credential_name is None:
        reason = f"TLS mode {tls.mode.name} needs a credentialName"
        report.add(SERVER_NOT_OPENED, tls.at, port=port, reason=reason)
        return None
    at, name = tls.at.at("credentialName"), tls.credential_name
    secret = mesh.secrets.get(f"{namespace}/{name}")
    if secret is None:
        report.add(DEVELOPMENT_CERTIFICATE, at, name=name, namespace=namespace)
    elif not any(secret.keys.issuperset(pair) for pair in CERTIFICATE_KEYS):
        reason = "it has no certificate and key (tls.crt and tls.key, or cert and key)"
        report.add(INVALID_CREDENTIAL, at, name=name, reason=reason)
        return None
    ca_credential = None
    if tls.mode is TlsModeWritten.MUTUAL:
        ca_credential = _ca_credential(secret, name, namespace, mesh)
        if ca_credential is None:
            reason = f'MUTUAL needs the clients\' CA: ca.crt in Secret "{name}", or a Secret "{name}-cacert"'
            report.add(SERVER_NOT_OPENED, at, port=port, reason=reason)
            return None
    return ServerTls(
        mode=ServerTlsMode[tls.mode.name],
        credential=name,
        ca_credential=ca_credential,
        minimum_version=TlsVersion(tls.min_protocol_version.value or "TLSV1_2"),
        maximum_version=TlsVersion(tls.max_protocol_version.value or "TLSV1_3"),
        cipher_suites=tls.cipher_suites,
    )


def _ca_credential(secret: SecretRef | None, name: str, namespace: str, mesh: Mesh) -> str | None:
    apart = f"{name}-cacert"
    for candidate, found in ((name, secret), (apart, mesh.secrets.get(f"{namespace}/{apart}"))):
        if found is not None and not found.keys.isdisjoint(CA_KEYS):
            return candidate
    return None
