"""A server with what its ClientTrafficPolicy says; closed, and why, where that cannot be done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.client_traffic_policy.revocation import revocation_problems
from isthmus.kinds.client_traffic_policy.spec import ClientTrafficPolicySpec
from isthmus.kinds.client_traffic_policy.tls import ClientValidationSpec
from isthmus.kinds.shape.server_tls import SERVER_NOT_OPENED
from isthmus.model.client_traffic import ClientTraffic, ClientValidation, TlsVersion
from isthmus.model.credential import CRL_KEYS
from isthmus.model.gateway import Server, ServerTls, ServerTlsMode
from isthmus.model.mesh import Mesh

WITHOUT_TLS = Code(
    "ISM2241",
    Severity.WARNING,
    "A ClientTrafficPolicy's tls where no TLS ends",
    "its tls has no effect on port {port} of {gateway}: {why}",
    what="The policy is for a server in plaintext, or for one that passes TLS through.",
    why="Whoever reaches that port is not asked for any certificate.",
    example="targetRefs: [{kind: Gateway, name: edge, sectionName: http}]\ntls: {minVersion: '1.3'}",
    fix="Give the policy the sectionName of a server with TLS, or the server protocol HTTPS.",
)


def settled(
    server: Server, traffic: ClientTraffic, spec: ClientTrafficPolicySpec, namespace: str, mesh: Mesh, report: Report
) -> Server | None:
    """``server`` with ``traffic``; None if it must stay closed, which is reported."""
    tls = server.tls
    if tls is None:
        if traffic.speaks_of_tls and not server.https_redirect:
            why = "TLS is passed through" if server.passthrough else "it is in plaintext"
            report.add(WITHOUT_TLS, spec.at.at("tls"), port=server.port, gateway=server.origin.ref, why=why)
        return replace(server, client_traffic=traffic)
    validation = spec.tls.client_validation if spec.tls is not None else None
    problems: list[tuple[Node, str]] = []
    if spec.tls is not None:
        problems += ((spec.tls.at.at(field), reason) for field, reason in _spoken_problems(tls, traffic))
    if validation is not None:
        found = _problems(server, tls, validation, namespace, mesh)
        problems += ((validation.at.at(field) if field else validation.at, reason) for field, reason in found)
    for at, reason in problems:
        report.add(SERVER_NOT_OPENED, at, port=server.port, reason=reason)
    if problems:
        return None
    return replace(server, client_traffic=traffic, tls=_settled_tls(tls, traffic))


def _spoken_problems(tls: ServerTls, traffic: ClientTraffic) -> Iterator[tuple[str, str]]:
    """What the Gateway and the policy say of versions and ciphers that cannot both be: (field, reason)."""
    together = _settled_tls(tls, traffic)
    if (together.minimum_version, together.maximum_version) == (TlsVersion.TLSV1_3, TlsVersion.TLSV1_2):
        yield ("minVersion" if traffic.minimum_version else "maxVersion"), "with the Gateway's, no version is left"
    usual = (TlsVersion.TLSV1_2, TlsVersion.TLSV1_3, ())
    if traffic.compliance is not None and (tls.minimum_version, tls.maximum_version, tls.cipher_suites) != usual:
        yield "compliancePolicy", "it settles versions and cipher suites, which the Gateway does, too"


def _settled_tls(tls: ServerTls, traffic: ClientTraffic) -> ServerTls:
    """The policy's words before the Gateway's. Without any of its own, what the Gateway narrows stays."""
    return replace(
        tls,
        minimum_version=traffic.minimum_version or tls.minimum_version,
        maximum_version=traffic.maximum_version or tls.maximum_version,
        cipher_suites=traffic.cipher_suites or tls.cipher_suites,
        ecdh_curves=traffic.ecdh_curves,
        compliance=traffic.compliance,
        staple=traffic.staple,
        resumption=traffic.resumption or tls.resumption,
        validation=_merged(tls.validation, traffic.validation),
    )


def _merged(gateway: ClientValidation, policy: ClientValidation | None) -> ClientValidation:
    """Each list has one author only: :func:`_problems` sees to that."""
    if policy is None:
        return gateway
    return ClientValidation(
        sans=policy.sans or gateway.sans,
        spki_hashes=policy.spki_hashes or gateway.spki_hashes,
        certificate_hashes=policy.certificate_hashes or gateway.certificate_hashes,
        crl_secrets=policy.crl_secrets,
        crl_file=policy.crl_file or gateway.crl_file,
        only_verify_leaf_crl=policy.only_verify_leaf_crl,
        crl_points=policy.crl_points,
        ocsp=policy.ocsp,
    )


def _problems(
    server: Server, tls: ServerTls, written: ClientValidationSpec, namespace: str, mesh: Mesh
) -> Iterator[tuple[str, str]]:
    """Why the server cannot do what ``written`` asks: (field, reason)."""
    said, own = written.value, tls.validation
    if tls.mode is ServerTlsMode.SIMPLE:
        yield "", "its mode is SIMPLE, which asks for no certificate that clientValidation could be about"
        return
    if tls.mode is ServerTlsMode.ISTIO_MUTUAL:
        yield "", "its mode is ISTIO_MUTUAL: peers of the mesh are told apart by AuthorizationPolicies"
        return
    if said.sans and own.sans:
        yield (
            "subjectAltNames",
            "the Gateway has subjectAltNames of its own: a certificate need have one name of one list",
        )
    if (said.spki_hashes or said.certificate_hashes) and (own.spki_hashes or own.certificate_hashes):
        yield "spkiHashes", "the Gateway has verifyCertificateSpki or verifyCertificateHash of its own"
    if said.crl_secrets and tls.ca_credential is None:
        yield "crl", "its CAs are in a file: the list must be one, too (crl.file)"
    elif said.crl_file and tls.ca_file is None:
        yield "crl", "its CAs are in a Secret: the list must be in one, too (crl.refs)"
    elif said.crl_file and own.crl_file:
        yield "crl", "the Gateway has a caCrl of its own"
    yield from revocation_problems(said, tls, requests=server.is_http)
    for name in said.crl_secrets:
        secret = mesh.secrets.get(f"{namespace}/{name}")
        if secret is None or secret.keys.isdisjoint(CRL_KEYS):
            yield "crl", f'no Secret "{name}" of namespace "{namespace}" has a list (ca.crl, or crl) that can be used'
