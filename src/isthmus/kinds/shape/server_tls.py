"""TLS of a Gateway's server: what is written, and the credentials that it needs."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from isthmus.config.decode import Reader, boolean, checked, enum_of, list_of, narrows, optional, record, required, text
from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.host import is_ip
from isthmus.kinds.shape.support import refused
from isthmus.model.client_headers import Resumption
from isthmus.model.client_traffic import ClientValidation, SanMatch, SanType, TlsVersion
from isthmus.model.credential import CA_KEYS, CERTIFICATE_KEYS
from isthmus.model.gateway import ServerTls, ServerTlsMode
from isthmus.model.match import Exact
from isthmus.model.mesh import Mesh
from isthmus.model.traffic_policy import CertificateFiles

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
_HASH_BYTES = 32


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
class TlsCertificateSpec:
    at: Node
    server_certificate: str
    private_key: str


@dataclass(frozen=True, slots=True)
class ServerTlsSpec:
    at: Node
    https_redirect: bool
    mode: TlsModeWritten | None
    credential_name: str | None
    credential_names: tuple[str, ...]
    tls_certificates: tuple[TlsCertificateSpec, ...]
    server_certificate: str | None
    private_key: str | None
    ca_certificates: str | None
    ca_cert_credential_name: str | None
    ca_crl: str | None
    subject_alt_names: tuple[str, ...]
    verify_certificate_spki: tuple[str, ...]
    verify_certificate_hash: tuple[str, ...]
    min_protocol_version: _Version
    max_protocol_version: _Version
    cipher_suites: tuple[str, ...]


_OF_CLIENTS = (
    *("caCertificates", "caCertCredentialName", "caCrl"),
    *("subjectAltNames", "verifyCertificateSpki", "verifyCertificateHash"),
)
_OF_THE_SERVER = ("credentialName", "credentialNames", "tlsCertificates", "serverCertificate", "privateKey")
_MOST_CERTIFICATES = 2
"""One ECDSA, one RSA: Istio's limit (ServerTLSSettings.credentialNames)."""


def said(tls: ServerTlsSpec, *names: str) -> list[str]:
    """Which of the fields ``names`` (without any: all about certificates) are written."""
    wanted = names or (*_OF_THE_SERVER, *_OF_CLIENTS)
    return [name for name in wanted if (found := tls.at.get(name)) is not None and found.value is not None]


def _secure(version: _Version) -> str | None:
    weak = version in (_Version.TLSV1_0, _Version.TLSV1_1)
    return f"{version.name} is broken: TLSV1_2 is the least" if weak else None


def _ordered(tls: ServerTlsSpec) -> str | None:
    limits = (tls.min_protocol_version, tls.max_protocol_version)
    return "minProtocolVersion is above maxProtocolVersion" if limits == (_Version.TLSV1_3, _Version.TLSV1_2) else None


def _one_source(tls: ServerTlsSpec) -> str | None:
    """Where certificates, and CAs, come from is said once: of two, one would be ignored."""
    files = said(tls, "serverCertificate", "privateKey")
    sources = [*said(tls, "credentialName", "credentialNames", "tlsCertificates"), *files[:1]]
    if len(sources) > 1:
        return f"only one of {', '.join(sources)} can say where the server's certificate is"
    if len(files) == 1:
        return "serverCertificate and privateKey come together"
    authorities = said(tls, "caCertificates", "caCertCredentialName")
    if len(authorities) > 1:
        return "only one of caCertificates and caCertCredentialName can say where the clients' CAs are"
    if tls.ca_crl is not None and tls.ca_certificates is None:
        return "caCrl is for CAs in a file (caCertificates); beside CAs in a Secret the list is its key ca.crl"
    return None


def mode_problem(tls: ServerTlsSpec) -> str | None:
    """Fields that the mode of a server that ends TLS has no use for: ignored, they would promise what is not done."""
    idle: list[str] = []
    if tls.mode is TlsModeWritten.SIMPLE:
        idle = said(tls, *_OF_CLIENTS)
    elif tls.mode is TlsModeWritten.ISTIO_MUTUAL:
        idle = said(tls)
    if not idle:
        return None
    assert tls.mode is not None, "no mode is PASSTHROUGH, which ends no TLS"
    why = (
        "asks for no certificate" if tls.mode is TlsModeWritten.SIMPLE else "has the mesh's own certificates and roots"
    )
    return f"mode {tls.mode.name} {why}: {', '.join(idle)} would have no effect"


def credential_problem(name: str) -> str | None:
    """What is wrong with the name of a Secret of the Gateway's own namespace."""
    bad = not name or any(character in name for character in "/:~")
    return "a credentialName is the name of a Secret in the Gateway's own namespace" if bad else None


def path_problem(path: str) -> str | None:
    """What is wrong with a path on the proxy's machine."""
    if not path.startswith("/"):
        return f'"{path}" is not an absolute path: a proxy has no folder that manifests could mean'
    return (
        'a path cannot have a "~" in it here: it separates the files in the names of secrets' if "~" in path else None
    )


def cipher_problem(name: str) -> str | None:
    """Why Envoy would not take the cipher suite ``name``."""
    return None if name in _CIPHERS else f'"{name}" is not a cipher suite that Envoy takes'


def spki_problem(written: str) -> str | None:
    try:
        size = len(base64.b64decode(written, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    return None if size == _HASH_BYTES else "this is not the base64 of a SHA-256 (44 characters)"


def hash_problem(written: str) -> str | None:
    """Envoy takes it with and without colons between the bytes."""
    good = re.fullmatch(r"[0-9a-fA-F]{64}|([0-9a-fA-F]{2}:){31}[0-9a-fA-F]{2}", written)
    return None if good else "this is not a SHA-256 in hexadecimal (64 digits, or 32 pairs between colons)"


def _certificates_problem(certificates: Sequence[object]) -> str | None:
    return None if 1 <= len(certificates) <= _MOST_CERTIFICATES else "one or two certificates: one of ECDSA, one of RSA"


_VERSION: Reader[_Version] = checked(enum_of(_Version), _secure)
_CREDENTIAL = checked(text, credential_problem)
_PATH = checked(text, path_problem)
_CERTIFICATE = record(
    TlsCertificateSpec, required("serverCertificate", _PATH), required("privateKey", _PATH), narrows("caCertificates")
)
SERVER_TLS = checked(
    checked(
        record(
            ServerTlsSpec,
            optional("httpsRedirect", boolean, False),
            optional("mode", enum_of(TlsModeWritten), note="AUTO_PASSTHROUGH: not opened"),
            optional("credentialName", _CREDENTIAL),
            optional("credentialNames", checked(list_of(_CREDENTIAL), _certificates_problem), ()),
            optional("tlsCertificates", checked(list_of(_CERTIFICATE), _certificates_problem), ()),
            optional("serverCertificate", _PATH, note="an absolute path on the proxy's machine"),
            optional("privateKey", _PATH, note="likewise"),
            optional("caCertificates", _PATH, note="likewise"),
            optional("caCertCredentialName", _CREDENTIAL, note="a Secret with a ca.crt (or cacert)"),
            optional("caCrl", _PATH, note="an absolute path, beside caCertificates; a Secret has its own, ca.crl"),
            optional(
                "subjectAltNames",
                list_of(checked(text, lambda name: None if name else "an empty name matches no certificate")),
                (),
                note="one of them must be the certificate's, as it is written, whatever its type",
            ),
            optional("verifyCertificateSpki", list_of(checked(text, spki_problem)), ()),
            optional("verifyCertificateHash", list_of(checked(text, hash_problem)), ()),
            optional("minProtocolVersion", _VERSION, _Version.TLS_AUTO, note="at least TLSV1_2, the default"),
            optional("maxProtocolVersion", _VERSION, _Version.TLS_AUTO),
            optional("cipherSuites", list_of(checked(text, cipher_problem)), ()),
            refused("insecureSkipVerify", "clients' certificates are verified"),
        ),
        _ordered,
    ),
    _one_source,
)


def passes_through(tls: ServerTlsSpec) -> bool:
    """Whether TLS is not ended at the gateway. No mode means so, as in Istio (ServerTLSSettings.TLSmode, 0)."""
    return tls.mode in (None, TlsModeWritten.PASSTHROUGH)


def ends_tls(tls: ServerTlsSpec) -> bool:
    """Whether anything is set that only who ends TLS needs."""
    versions = (tls.min_protocol_version, tls.max_protocol_version)
    return bool(said(tls) or tls.cipher_suites) or versions != (_Version.TLS_AUTO, _Version.TLS_AUTO)


def server_tls(tls: ServerTlsSpec, port: int, namespace: str, mesh: Mesh, report: Report) -> ServerTls | None:
    """The TLS of a server that ends it; None, and why, if the server must stay closed."""
    if tls.mode is None or tls.mode.name not in ServerTlsMode.__members__:
        reason = f"TLS mode {tls.mode.name if tls.mode else 'PASSTHROUGH'} is not supported yet"
        report.add(SERVER_NOT_OPENED, tls.at.at("mode"), port=port, reason=reason)
        return None
    mode = ServerTlsMode[tls.mode.name]
    certificates = _certificates(tls, mode, port, namespace, mesh, report)
    if certificates is None:
        return None
    ca_credential: str | None = None
    if mode.asks and mode is not ServerTlsMode.ISTIO_MUTUAL and tls.ca_certificates is None:
        ca_credential = _ca_credential(tls, namespace, mesh)
        if ca_credential is None:
            report.add(SERVER_NOT_OPENED, _ca_place(tls), port=port, reason=_no_ca(tls))
            return None
    return ServerTls(
        mode=mode,
        certificates=certificates,
        ca_credential=ca_credential,
        ca_file=tls.ca_certificates,
        minimum_version=TlsVersion(tls.min_protocol_version.value or "TLSV1_2"),
        maximum_version=TlsVersion(tls.max_protocol_version.value or "TLSV1_3"),
        cipher_suites=tls.cipher_suites,
        validation=ClientValidation(
            sans=tuple(SanMatch(of, Exact(name)) for name in tls.subject_alt_names for of in _types(name)),
            spki_hashes=tls.verify_certificate_spki,
            certificate_hashes=tls.verify_certificate_hash,
            crl_file=tls.ca_crl,
        ),
        resumption=_resumption(certificates, namespace, mesh),
    )


def _resumption(certificates: Sequence[str | CertificateFiles], namespace: str, mesh: Mesh) -> Resumption | None:
    """Envoy takes no ticket keys beside a certificate that names nobody: it would refuse every connection."""
    secrets = (mesh.secrets.get(f"{namespace}/{name}") for name in certificates if isinstance(name, str))
    return Resumption(stateless=False, stateful=True) if any(one and one.nameless for one in secrets) else None


def _types(name: str) -> tuple[SanType, ...]:
    """Of what type a name can be that is written without one."""
    return (SanType.IP_ADDRESS,) if is_ip(name) else (SanType.DNS, SanType.URI, SanType.EMAIL)


def _certificates(
    tls: ServerTlsSpec, mode: ServerTlsMode, port: int, namespace: str, mesh: Mesh, report: Report
) -> tuple[str | CertificateFiles, ...] | None:
    """What the server proves itself with; None, reported, if any of it cannot be used."""
    if mode is ServerTlsMode.ISTIO_MUTUAL:
        return ()
    files = tuple(CertificateFiles(one.server_certificate, one.private_key) for one in tls.tls_certificates)
    if tls.server_certificate is not None and tls.private_key is not None:
        files = (CertificateFiles(tls.server_certificate, tls.private_key),)
    if files:
        return files
    names = [(tls.at.at("credentialName"), tls.credential_name)] if tls.credential_name is not None else []
    names += [(tls.at.at("credentialNames", index), name) for index, name in enumerate(tls.credential_names)]
    if not names:
        reason = f"TLS mode {mode.name} needs a credentialName, or serverCertificate and privateKey"
        report.add(SERVER_NOT_OPENED, tls.at, port=port, reason=reason)
        return None
    usable = [_usable(name, at, namespace, mesh, report) for at, name in names]
    return tuple(name for _, name in names) if all(usable) else None


def _usable(name: str, at: Node, namespace: str, mesh: Mesh, report: Report) -> bool:
    """Whether a Secret can prove who the server is; one that is not there has a stand-in for development."""
    secret = mesh.secrets.get(f"{namespace}/{name}")
    if secret is None:
        report.add(DEVELOPMENT_CERTIFICATE, at, name=name, namespace=namespace)
    elif not any(secret.keys.issuperset(pair) for pair in CERTIFICATE_KEYS):
        reason = "it has no certificate and key (tls.crt and tls.key, or cert and key)"
        report.add(INVALID_CREDENTIAL, at, name=name, reason=reason)
        return False
    return True


def _ca_credential(tls: ServerTlsSpec, namespace: str, mesh: Mesh) -> str | None:
    """The Secret that has the clients' CAs: the one that is named for it, or one of a certificate, or its -cacert."""
    if tls.ca_cert_credential_name is not None:
        candidates = [tls.ca_cert_credential_name]
    else:
        named = [tls.credential_name] if tls.credential_name is not None else list(tls.credential_names)
        candidates = [*named, *(f"{name}-cacert" for name in named)]
    for candidate in candidates:
        found = mesh.secrets.get(f"{namespace}/{candidate}")
        if found is not None and not found.keys.isdisjoint(CA_KEYS):
            return candidate
    return None


def _ca_place(tls: ServerTlsSpec) -> Node:
    named = said(tls, "caCertCredentialName", "credentialName", "credentialNames")
    return tls.at.at(named[0]) if named else tls.at


def _no_ca(tls: ServerTlsSpec) -> str:
    assert tls.mode is not None
    if tls.ca_cert_credential_name is not None:
        return f'{tls.mode.name} needs the clients\' CA: no Secret "{tls.ca_cert_credential_name}" has a ca.crt'
    name = tls.credential_name or (tls.credential_names[0] if tls.credential_names else None)
    if name is None:
        return f"{tls.mode.name} needs the clients' CA: caCertificates, or a caCertCredentialName"
    return f'{tls.mode.name} needs the clients\' CA: ca.crt in Secret "{name}", or a Secret "{name}-cacert"'
