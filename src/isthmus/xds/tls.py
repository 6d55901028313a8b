"""TLS contexts: mutual TLS between proxies, and the gateway's certificates. Keys come by SDS from the agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import core_v3, matcher_v3, protobuf, tls_v3
from isthmus.model.gateway import ServerTls, ServerTlsMode, TlsVersion
from isthmus.xds.secret import ROOT_CA, SVID, ca_credential_name, credential_name, sds_secret

ISTIO_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
"""What marks a TLS client as a proxy of the mesh (Istio: pilot/pkg/networking/util, ALPNInMesh)."""

_VERSIONS = {TlsVersion.TLSV1_2: "TLSv1_2", TlsVersion.TLSV1_3: "TLSv1_3"}


def _uri_san(matcher: Any) -> Any:
    return tls_v3.SubjectAltNameMatcher(san_type=tls_v3.SubjectAltNameMatcher.URI, matcher=matcher)


def _mesh_validation(sans: Sequence[Any]) -> Any:
    """The mesh's roots, and which URI SANs are good: roots alone would let in a CA's own certificate."""
    return tls_v3.CommonTlsContext.CombinedCertificateValidationContext(
        default_validation_context=tls_v3.CertificateValidationContext(match_typed_subject_alt_names=sans),
        validation_context_sds_secret_config=sds_secret(ROOT_CA),
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


def mesh_server(trust_domain: str, alpn: Sequence[str]) -> Any:
    """The sidecar's side of mutual TLS: peers of this trust domain only, no resumption (it would skip validation)."""
    return _transport_socket(
        tls_v3.DownstreamTlsContext(
            require_client_certificate=protobuf.BoolValue(value=True),
            disable_stateless_session_resumption=True,
            disable_stateful_session_resumption=True,
            common_tls_context=tls_v3.CommonTlsContext(
                tls_params=_parameters(TlsVersion.TLSV1_2, TlsVersion.TLSV1_3),
                alpn_protocols=list(alpn),
                tls_certificate_sds_secret_configs=[sds_secret(SVID)],
                combined_validation_context=_mesh_validation(
                    [_uri_san(matcher_v3.StringMatcher(prefix=f"spiffe://{trust_domain}/ns/"))]
                ),
            ),
        )
    )


def mesh_client(identities: Sequence[str], sni: str, alpn: Sequence[str]) -> Any:
    """The caller's side of mutual TLS; the server must be one of ``identities`` (SPIFFE IDs)."""
    return _transport_socket(
        tls_v3.UpstreamTlsContext(
            sni=sni,
            common_tls_context=tls_v3.CommonTlsContext(
                tls_params=_parameters(TlsVersion.TLSV1_2, TlsVersion.TLSV1_3),
                alpn_protocols=list(alpn),
                tls_certificate_sds_secret_configs=[sds_secret(SVID)],
                combined_validation_context=_mesh_validation(
                    [_uri_san(matcher_v3.StringMatcher(exact=uri)) for uri in identities]
                ),
            ),
        )
    )


def gateway_server(tls: ServerTls, namespace: str) -> Any:
    """The edge's TLS: SIMPLE, or MUTUAL with the client CAs of the credential."""
    mutual = tls.mode is ServerTlsMode.MUTUAL
    common = tls_v3.CommonTlsContext(
        tls_params=_parameters(tls.minimum_version, tls.maximum_version, tls.cipher_suites),
        alpn_protocols=["h2", "http/1.1"],
        tls_certificate_sds_secret_configs=[sds_secret(credential_name(namespace, tls.credential))],
    )
    if mutual:
        assert tls.ca_credential is not None, "the reader refuses MUTUAL without a CA"
        common.validation_context_sds_secret_config.CopyFrom(
            sds_secret(ca_credential_name(namespace, tls.ca_credential))
        )
    return _transport_socket(
        tls_v3.DownstreamTlsContext(
            require_client_certificate=protobuf.BoolValue(value=mutual),
            disable_stateless_session_resumption=mutual,
            disable_stateful_session_resumption=mutual,
            common_tls_context=common,
        )
    )
