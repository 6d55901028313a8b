"""``tls`` of a ClientTrafficPolicy: versions, ciphers and curves, and what a client's certificate must be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from isthmus.config.decode import (
    Reader,
    boolean,
    checked,
    enum_of,
    fail,
    list_of,
    narrows,
    optional,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.client_traffic_policy.revocation import DISTRIBUTION_POINTS, OCSP, OCSP_STAPLING
from isthmus.kinds.client_traffic_policy.session import SESSION
from isthmus.kinds.client_traffic_policy.subject_alt_names import SUBJECT_ALT_NAMES
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.server_tls import cipher_problem, credential_problem, hash_problem, path_problem, spki_problem
from isthmus.model.client_headers import Resumption
from isthmus.model.client_traffic import ClientValidation, CompliancePolicy, SanMatch, TlsVersion
from isthmus.model.revocation import ClientOcsp, CrlPoints, StaplePolicy

_CURVES = ("X25519", "P-256", "P-384", "P-521", "X25519MLKEM768")
"""What Envoy 1.39 takes (BoringSSL's SSL_CTX_set1_groups_list). The first is liked best."""
_MOST_LISTS = 8


class _ListKind(Enum):
    Secret = "Secret"  # noqa: S105 (a kind)


@dataclass(frozen=True, slots=True)
class ListRefSpec:
    at: Node
    kind: _ListKind
    name: str


@dataclass(frozen=True, slots=True)
class CrlSpec:
    at: Node
    refs: tuple[ListRefSpec, ...]
    file: str | None
    distribution_points: tuple[str, ...]
    from_certificates: bool
    only_verify_leaf_certificate: bool

    @property
    def points(self) -> CrlPoints | None:
        fetched = bool(self.distribution_points) or self.from_certificates
        return CrlPoints(self.distribution_points, self.from_certificates) if fetched else None


@dataclass(frozen=True, slots=True)
class ClientValidationSpec:
    at: Node
    subject_alt_names: tuple[SanMatch, ...]
    spki_hashes: tuple[str, ...]
    certificate_hashes: tuple[str, ...]
    crl: CrlSpec | None
    ocsp: ClientOcsp | None

    @property
    def value(self) -> ClientValidation:
        crl = self.crl
        return ClientValidation(
            sans=self.subject_alt_names,
            spki_hashes=self.spki_hashes,
            certificate_hashes=self.certificate_hashes,
            crl_secrets=tuple(ref.name for ref in crl.refs) if crl is not None else (),
            crl_file=crl.file if crl is not None else None,
            only_verify_leaf_crl=crl is not None and crl.only_verify_leaf_certificate,
            crl_points=crl.points if crl is not None else None,
            ocsp=self.ocsp,
        )


@dataclass(frozen=True, slots=True)
class TlsSpec:
    at: Node
    client_validation: ClientValidationSpec | None
    min_version: TlsVersion | None
    max_version: TlsVersion | None
    ciphers: tuple[str, ...]
    ecdh_curves: tuple[str, ...]
    compliance_policy: CompliancePolicy | None
    ocsp_stapling: StaplePolicy | None
    session: Resumption | None


def _version(written: str, node: Node, report: Report) -> TlsVersion | None:
    known = {"Auto": None, "1.2": TlsVersion.TLSV1_2, "1.3": TlsVersion.TLSV1_3}
    if written in ("1.0", "1.1"):
        raise fail(report, node, f"TLS {written} is broken: 1.2 is the least")
    if written not in known:
        raise fail(report, node, f'"{written}" is not one of {", ".join(known)} (in quotes)')
    return known[written]


def _crl(crl: CrlSpec, node: Node, report: Report) -> CrlSpec:
    if crl.refs and crl.file is not None:
        raise fail(report, node, "only one of refs and file can be given")
    if not crl.refs and crl.file is None and crl.points is None:
        raise fail(report, node, "one of refs, file, distributionPoints and fromCertificates says where the list is")
    return crl


def _says_something(written: ClientValidationSpec, node: Node, report: Report) -> ClientValidationSpec:
    if written.value == ClientValidation():
        raise fail(report, node, "it says nothing: name what certificates must be, or take it out")
    return written


def _consistent(tls: TlsSpec, node: Node, report: Report) -> TlsSpec:
    if (tls.min_version, tls.max_version) == (TlsVersion.TLSV1_3, TlsVersion.TLSV1_2):
        raise fail(report, node.at("minVersion"), "minVersion is above maxVersion")
    if tls.min_version is TlsVersion.TLSV1_3 and tls.ciphers:
        raise fail(report, node.at("ciphers"), "cipher suites can be chosen for TLS 1.2 only, and minVersion is 1.3")
    settled = [name for name in ("minVersion", "maxVersion", "ciphers", "ecdhCurves") if _given(node, name)]
    if tls.compliance_policy is not None and settled:
        raise fail(report, node.at(settled[0]), f"compliancePolicy settles {settled[0]}: only one of them can be given")
    return tls


def _given(node: Node, name: str) -> bool:
    found = node.get(name)
    return found is not None and found.value is not None


def _curve_problem(name: str) -> str | None:
    return None if name in _CURVES else f'"{name}" is not one of {", ".join(_CURVES)}'


_VERSION = converted(text, _version)
_CRL: Reader[CrlSpec] = converted(
    record(
        CrlSpec,
        optional(
            "refs",
            checked(
                list_of(
                    record(
                        ListRefSpec,
                        optional("kind", enum_of(_ListKind), _ListKind.Secret),
                        required("name", checked(text, credential_problem)),
                    )
                ),
                lambda refs: f"at most {_MOST_LISTS} lists are taken" if len(refs) > _MOST_LISTS else None,
            ),
            (),
            note="Secrets of the Gateway's namespace with a `ca.crl` (or `crl`), for CAs that are in Secrets",
        ),
        optional("file", checked(text, path_problem), note="an absolute path, for CAs that are in a file"),
        optional(
            "distributionPoints", DISTRIBUTION_POINTS, (), note="URLs at which the client CAs publish their lists"
        ),
        optional("fromCertificates", boolean, False, note="also those that the CAs' own certificates name"),
        optional("onlyVerifyLeafCertificate", boolean, False, note="by default every certificate of the chain"),
    ),
    _crl,
)
_CLIENT_VALIDATION: Reader[ClientValidationSpec] = converted(
    record(
        ClientValidationSpec,
        optional("subjectAltNames", SUBJECT_ALT_NAMES, (), note="one of them must be the certificate's"),
        optional("spkiHashes", list_of(checked(text, spki_problem)), (), note="base64 of SHA-256"),
        optional("certificateHashes", list_of(checked(text, hash_problem)), (), note="SHA-256 in hexadecimal"),
        optional("crl", _CRL),
        optional("ocsp", OCSP),
        narrows("caCertificateRefs", "the Gateway's credentialName (or caCertificates) says which CAs"),
        narrows("optional", "the Gateway's mode says: OPTIONAL_MUTUAL, or MUTUAL"),
    ),
    _says_something,
)
TLS: Reader[TlsSpec] = converted(
    record(
        TlsSpec,
        optional("clientValidation", _CLIENT_VALIDATION),
        optional("minVersion", _VERSION, note='"1.2" (the least, and the default), "1.3" or Auto'),
        optional("maxVersion", _VERSION),
        optional("ciphers", list_of(checked(text, cipher_problem)), (), note="of TLS 1.2"),
        optional("ecdhCurves", list_of(checked(text, _curve_problem)), ()),
        optional("compliancePolicy", enum_of(CompliancePolicy), note="settles versions, ciphers and curves"),
        optional("session", SESSION),
        optional("ocspStapling", OCSP_STAPLING, note="an answer about the server's own certificate stands beside it"),
        narrows("signatureAlgorithms"),
        narrows("alpnProtocols"),
    ),
    _consistent,
)
