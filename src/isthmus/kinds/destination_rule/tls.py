"""``tls``: how clients speak to a service, and whose certificates they believe."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from isthmus.config.decode import Reader, boolean, checked, enum_of, fail, list_of, optional, record, required, text
from isthmus.config.node import Node
from isthmus.diag import Code, Origin, Report, Severity
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.host import host_name
from isthmus.model.traffic_policy import CertificateFiles, ClientTls, TlsMode

NOT_VERIFIED = Code(
    "ISM2141",
    Severity.WARNING,
    "A server's certificate is not verified",
    "insecureSkipVerify: whoever answers at the address is taken for the server",
    what="The certificate that the server shows is taken, whoever signed it and whatever name it has.",
    why="Anybody between the proxy and the server can read and change what is sent.",
    example="tls: {mode: SIMPLE, insecureSkipVerify: true}",
    fix="Give the server's authority with caCertificates, or the names of its certificate with subjectAltNames.",
)

_SYSTEM = "system"
_FILES = ("clientCertificate", "privateKey", "caCertificates", "caCrl")
_OF_ORIGINATION = (*_FILES, "credentialName", "insecureSkipVerify")


class _Mode(Enum):
    """AUTO is what nothing written means, and cannot be written."""

    DISABLE = TlsMode.DISABLE
    SIMPLE = TlsMode.SIMPLE
    MUTUAL = TlsMode.MUTUAL
    ISTIO_MUTUAL = TlsMode.ISTIO_MUTUAL


@dataclass(frozen=True, slots=True)
class _Tls:
    at: Node
    mode: _Mode
    client_certificate: str | None
    private_key: str | None
    ca_certificates: str | None
    ca_crl: str | None
    credential_name: str | None
    sni: str | None
    subject_alt_names: tuple[str, ...]
    insecure_skip_verify: bool


def _path_problem(path: str) -> str | None:
    if not path.startswith("/"):
        return f'"{path}" is not an absolute path: a proxy has no folder that manifests could mean'
    return (
        'a path cannot have a "~" in it here: it separates the files in the names of secrets' if "~" in path else None
    )


def _ca_problem(path: str) -> str | None:
    return None if path == _SYSTEM else _path_problem(path)


def _credential_problem(name: str) -> str | None:
    bad = not name or "/" in name or ":" in name
    return "a credentialName is the name of a Secret in the namespace of the proxy that connects" if bad else None


def _name_problem(name: str) -> str | None:
    if not name:
        return "an empty name matches no certificate"
    return f'"{name}": names are compared as a whole, a "*" stands for itself' if "*" in name else None


def _tls(written: _Tls, node: Node, report: Report) -> ClientTls:
    for name, why in _contradictions(written, node):
        raise fail(report, node.at(name), why)
    if written.mode is _Mode.MUTUAL and written.credential_name is None:
        for name, given in (("clientCertificate", written.client_certificate), ("privateKey", written.private_key)):
            if given is None:
                raise fail(report, node.at("mode"), f"MUTUAL needs {name}, or a credentialName")
    if written.insecure_skip_verify:
        report.add(NOT_VERIFIED, node.key("insecureSkipVerify"))
    certificate = None
    if written.client_certificate is not None and written.private_key is not None:
        certificate = CertificateFiles(written.client_certificate, written.private_key)
    return ClientTls(
        mode=written.mode.value,
        sni=written.sni,
        subject_alt_names=written.subject_alt_names,
        ca_file=None if written.ca_certificates == _SYSTEM else written.ca_certificates,
        crl_file=written.ca_crl,
        certificate=certificate,
        credential=written.credential_name,
        skip_verify=written.insecure_skip_verify,
        origin=Origin(node.ref, node.source) if node.ref is not None else None,
    )


def _contradictions(written: _Tls, node: Node) -> list[tuple[str, str]]:
    """Fields that another one makes meaningless: ignored, they would promise what is not done."""

    def given(*names: str) -> list[str]:
        return [name for name in names if (found := node.get(name)) is not None and found.value is not None]

    mode = written.mode.name
    if written.mode is _Mode.DISABLE:
        return [
            (name, f"mode {mode} has no use for {name}") for name in given(*_OF_ORIGINATION, "sni", "subjectAltNames")
        ]
    if written.mode is _Mode.ISTIO_MUTUAL:
        why = "mode ISTIO_MUTUAL takes the mesh's own certificates: {} has no use"
        return [(name, why.format(name)) for name in given(*_OF_ORIGINATION)]
    found = []
    if written.mode is _Mode.SIMPLE:
        why = "mode SIMPLE shows no certificate of the client: {} has no use (mode MUTUAL does)"
        found += [(name, why.format(name)) for name in given("clientCertificate", "privateKey")]
    if written.credential_name is not None:
        found += [(name, f"credentialName stands for all of {', '.join(_FILES)}") for name in given(*_FILES)]
    if written.insecure_skip_verify:
        useless = ("caCertificates", "caCrl", "subjectAltNames")
        found += [(name, f"insecureSkipVerify would leave {name} without effect") for name in given(*useless)]
        if written.mode is _Mode.SIMPLE and written.credential_name is not None:
            found.append(("credentialName", "insecureSkipVerify would leave credentialName without effect"))
    return found


_PATH = checked(text, _path_problem)
TLS: Reader[ClientTls] = converted(
    record(
        _Tls,
        required("mode", enum_of(_Mode)),
        optional("clientCertificate", _PATH, note="an absolute path on the proxy's machine"),
        optional("privateKey", _PATH, note="likewise"),
        optional(
            "caCertificates",
            checked(text, _ca_problem),
            note='likewise, or "system"; without it the system\'s roots are believed, never anybody',
        ),
        optional("caCrl", _PATH, note="likewise"),
        optional("credentialName", checked(text, _credential_problem), note="a Secret of the proxy's namespace"),
        optional("sni", host_name, note="by default the service's host"),
        optional(
            "subjectAltNames",
            list_of(checked(text, _name_problem)),
            (),
            note="one of them must be the certificate's; by default the SNI",
        ),
        optional("insecureSkipVerify", boolean, False),
    ),
    _tls,
)
