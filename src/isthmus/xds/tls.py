"""TLS contexts: mutual TLS between proxies, and the gateway's certificates. Keys come by SDS from the agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import core_v3, matcher_v3, protobuf, tls_v3
from isthmus.model.client_headers import Resumption
from isthmus.model.client_traffic import TlsVersion
from isthmus.model.credential import ClientCredential
from isthmus.model.federation import TrustDomains
from isthmus.model.gateway import ServerTls, ServerTlsMode
from isthmus.model.revocation import StaplePolicy
from isthmus.model.traffic_policy import ClientTls, TlsMode
from isthmus.model.world import World
from isthmus.xds.address import is_name
from isthmus.xds.client_validation import add_client_validation, client_roots_in_force
from isthmus.xds.secret import (
    ALL_ROOTS,
    ROOT_CA,
    SESSION_TICKET_KEYS,
    SVID,
    ca_credential_name,
    credential_name,
    federated_roots_name,
    file_certificate_name,
    file_roots_name,
    sds_secret,
)

ISTIO_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
"""What marks a TLS client as a proxy of the mesh (Istio: pilot/pkg/networking/util, ALPNInMesh)."""

_STAPLING = {
    None: tls_v3.DownstreamTlsContext.LENIENT_STAPLING,
    StaplePolicy.LENIENT: tls_v3.DownstreamTlsContext.LENIENT_STAPLING,
    StaplePolicy.STRICT: tls_v3.DownstreamTlsContext.STRICT_STAPLING,
    StaplePolicy.MUST: tls_v3.DownstreamTlsContext.MUST_STAPLE,
}
_VERSIONS = {TlsVersion.TLSV1_2: "TLSv1_2", TlsVersion.TLSV1_3: "TLSv1_3"}


def _uri_san(matcher: Any) -> Any:
    return tls_v3.SubjectAltNameMatcher(san_type=tls_v3.SubjectAltNameMatcher.URI, matcher=matcher)


def _mesh_validation(sans: Sequence[Any], roots: str = ROOT_CA) -> Any:
    """Some roots, and which URI SANs are good: roots alone would let in a CA's own certificate."""
    return tls_v3.CommonTlsContext.CombinedCertificateValidationContext(
        default_validation_context=tls_v3.CertificateValidationContext(match_typed_subject_alt_names=sans),
        validation_context_sds_secret_config=sds_secret(roots),
    )


def _parameters(minimum: TlsVersion, maximum: TlsVersion, ciphers: Sequence[str] = ()) -> Any:
    protocol = tls_v3.TlsParameters.TlsProtocol
    return tls_v3.TlsParameters(
        tls_minimum_protocol_version=protocol.Value(_VERSIONS[minimum]),
        tls_maximum_protocol_version=protocol.Value(_VERSIONS[maximum]),
        cipher_suites=list(ciphers),
    )


def _transport_socket(context: Any) -> Any:
    return core_v3.TransportSocket(name="envoy.transport_sockets.tls", typed_config=any_of(context))


def mesh_server(trusted: TrustDomains, alpn: Sequence[str], parameters: Any = None) -> Any:
    """The sidecar's side of mutual TLS: peers of these trust domains only, no resumption (it would skip validation).

    Other trust domains' peers are validated each by its own roots. What validates them looks at the first URI SAN
    alone: a certificate with two must be closed behind it (``build_ambiguous_peer_guard``).
    """
    prefixes = [*(f"spiffe://{own}/ns/" for own in trusted.own), *(f"spiffe://{name}/" for name in trusted.federated)]
    return _transport_socket(
        tls_v3.DownstreamTlsContext(
            require_client_certificate=protobuf.BoolValue(value=True),
            disable_stateless_session_resumption=True,
            disable_stateful_session_resumption=True,
            common_tls_context=tls_v3.CommonTlsContext(
                tls_params=parameters or _parameters(TlsVersion.TLSV1_2, TlsVersion.TLSV1_3),
                alpn_protocols=list(alpn),
                tls_certificate_sds_secret_configs=[sds_secret(SVID)],
                combined_validation_context=_mesh_validation(
                    [_uri_san(matcher_v3.StringMatcher(prefix=prefix)) for prefix in prefixes],
                    ALL_ROOTS if trusted.federated else ROOT_CA,
                ),
            ),
        )
    )


def mesh_client(identities: Sequence[str], sni: str, alpn: Sequence[str], trusted: TrustDomains | None = None) -> Any:
    """The caller's side of mutual TLS; the server must be one of ``identities`` (SPIFFE IDs).

    They are of one trust domain, whose roots alone are believed: with those of several, either could name a server of
    the other. Names of several, or of one that is not ``trusted``, are nobody's.
    """
    roots = ROOT_CA
    if trusted is not None:
        authority = trusted.authority_of(identities)
        if authority is not None and authority in trusted.federated:
            roots = federated_roots_name(authority)
        elif authority != trusted.own[0]:
            identities = (NOBODY,)
    return _transport_socket(
        tls_v3.UpstreamTlsContext(
            sni=sni,
            common_tls_context=tls_v3.CommonTlsContext(
                tls_params=_parameters(TlsVersion.TLSV1_2, TlsVersion.TLSV1_3),
                alpn_protocols=list(alpn),
                tls_certificate_sds_secret_configs=[sds_secret(SVID)],
                combined_validation_context=_mesh_validation(
                    [_uri_san(matcher_v3.StringMatcher(exact=uri)) for uri in identities], roots
                ),
            ),
        )
    )


NOBODY = "spiffe://nobody.invalid/"
"""A name that no certificate has."""


def nobody(sni: str) -> Any:
    """TLS that believes no server: what cannot be verified must not be connected to, and never in plaintext."""
    wanted = _mesh_validation([_uri_san(matcher_v3.StringMatcher(exact=NOBODY))])
    common = tls_v3.CommonTlsContext(combined_validation_context=wanted)
    return _transport_socket(tls_v3.UpstreamTlsContext(sni=sni, common_tls_context=common))


def client(
    tls: ClientTls, sni: str, names: Sequence[str], alpn: Sequence[str], credential: ClientCredential | None
) -> Any:
    """TLS to a server outside the mesh, whose certificate must have one of ``names`` (none: the request's own).

    ``credential`` is what ``tls.credential`` names; without it certificate and roots are files, or the system's.
    """
    common = tls_v3.CommonTlsContext(
        tls_params=_parameters(TlsVersion.TLSV1_2, TlsVersion.TLSV1_3), alpn_protocols=list(alpn)
    )
    certificate = _own_certificate(tls, credential)
    if certificate is not None:
        common.tls_certificate_sds_secret_configs.append(sds_secret(certificate))
    if tls.skip_verify:
        # Without any validation context Envoy takes whatever certificate there is.
        return _transport_socket(tls_v3.UpstreamTlsContext(sni=sni, common_tls_context=common))
    roots = file_roots_name(tls.ca_file, tls.crl_file)
    if credential is not None and credential.ca is not None:
        roots = ca_credential_name(credential.namespace, credential.ca)
    common.combined_validation_context.CopyFrom(
        tls_v3.CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=tls_v3.CertificateValidationContext(
                match_typed_subject_alt_names=[_server_san(name) for name in names]
            ),
            validation_context_sds_secret_config=sds_secret(roots),
        )
    )
    return _transport_socket(tls_v3.UpstreamTlsContext(sni=sni, common_tls_context=common))


def _own_certificate(tls: ClientTls, credential: ClientCredential | None) -> str | None:
    """The secret of the certificate that the client shows."""
    if tls.mode is not TlsMode.MUTUAL:
        return None
    if credential is not None and credential.certificate is not None:
        return credential_name(credential.namespace, credential.certificate)
    return file_certificate_name(tls.certificate.chain, tls.certificate.key) if tls.certificate is not None else None


def _server_san(name: str) -> Any:
    """Exactly ``name``, in the form that a certificate has it; one for ``*.a.b`` has the DNS name ``x.a.b``, too."""
    san = tls_v3.SubjectAltNameMatcher
    form = san.DNS
    if "://" in name:
        form = san.URI
    elif not is_name(name):
        form = san.IP_ADDRESS
    elif "@" in name:
        form = san.EMAIL
    return san(san_type=form, matcher=matcher_v3.StringMatcher(exact=name))


def gateway_server(
    tls: ServerTls,
    namespace: str,
    trusted: TrustDomains,
    alpn: Sequence[str] = ("h2", "http/1.1"),
    world: World | None = None,
) -> Any:
    """The edge's TLS, with the certificates and client CAs that its Gateway names. No ``alpn`` before connections.

    Where clients are asked for a certificate nothing is resumed: a resumed session skips their validation.
    """
    if tls.mode is ServerTlsMode.ISTIO_MUTUAL:
        return mesh_server(trusted, alpn, _server_parameters(tls))
    certificates = [credential_name(namespace, name) for name in tls.secrets]
    certificates += [file_certificate_name(files.chain, files.key) for files in tls.files]
    common = tls_v3.CommonTlsContext(
        tls_params=_server_parameters(tls),
        alpn_protocols=list(alpn),
        tls_certificate_sds_secret_configs=[sds_secret(name) for name in certificates],
    )
    if tls.mode.asks:
        roots = client_roots_in_force(tls, namespace, world or World())
        add_client_validation(common, tls.validation, sds_secret(roots))
    resumption = Resumption(False, False) if tls.mode.asks else tls.resumption or Resumption(True, True)
    return _transport_socket(
        tls_v3.DownstreamTlsContext(
            require_client_certificate=protobuf.BoolValue(value=tls.mode.requires),
            disable_stateless_session_resumption=not resumption.stateless,
            disable_stateful_session_resumption=not resumption.stateful,
            session_ticket_keys_sds_secret_config=sds_secret(SESSION_TICKET_KEYS) if resumption.stateless else None,
            common_tls_context=common,
            ocsp_staple_policy=_STAPLING[tls.staple],
        )
    )


def _server_parameters(tls: ServerTls) -> Any:
    """A compliance policy settles everything itself; Envoy refuses others' words beside it."""
    if tls.compliance is not None:
        policy = tls_v3.TlsParameters.CompliancePolicy.Value(tls.compliance.value)
        return tls_v3.TlsParameters(compliance_policies=[policy])
    parameters = _parameters(tls.minimum_version, tls.maximum_version, tls.cipher_suites)
    parameters.ecdh_curves.extend(tls.ecdh_curves)
    return parameters
