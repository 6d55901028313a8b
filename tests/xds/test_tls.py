from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from isthmus.envoy_api import unpack
from isthmus.model.client_traffic import ClientValidation, CompliancePolicy, TlsVersion
from isthmus.model.federation import TrustDomains
from isthmus.model.gateway import ServerTls, ServerTlsMode
from isthmus.model.traffic_policy import CertificateFiles
from isthmus.xds.tls import gateway_server, mesh_client, mesh_server

SIMPLE = ServerTls(ServerTlsMode.SIMPLE, ("cert",))
MUTUAL = ServerTls(ServerTlsMode.MUTUAL, ("cert",), "clients", TlsVersion.TLSV1_3, TlsVersion.TLSV1_3, ("AES128-SHA",))


def context(socket: Any) -> Any:
    assert socket.name == "envoy.transport_sockets.tls"
    return unpack(socket.typed_config)


def sans(found: Any) -> list[tuple[str, str, str]]:
    """Each as (what it is of, how it is matched, value)."""
    validation = found.common_tls_context.combined_validation_context.default_validation_context
    matchers = validation.match_typed_subject_alt_names
    return [
        (one.SanType.Name(one.san_type), how := one.matcher.WhichOneof("match_pattern"), getattr(one.matcher, how))
        for one in matchers
    ]


def versions(found: Any) -> tuple[str, str]:
    parameters = found.common_tls_context.tls_params
    name = parameters.TlsProtocol.Name
    return name(parameters.tls_minimum_protocol_version), name(parameters.tls_maximum_protocol_version)


CLUSTER_LOCAL = TrustDomains(("cluster.local",))


@pytest.mark.parametrize("socket", [mesh_server(CLUSTER_LOCAL, ("h2",)), mesh_client(["spiffe://a"], "sni", ("h2",))])
def test_both_ends_show_their_svid_and_trust_the_meshs_roots(socket: Any) -> None:
    common = context(socket).common_tls_context
    assert [one.name for one in common.tls_certificate_sds_secret_configs] == ["default"]
    assert common.combined_validation_context.validation_context_sds_secret_config.name == "ROOTCA"
    assert versions(context(socket)) == ("TLSv1_2", "TLSv1_3")
    assert list(common.alpn_protocols) == ["h2"]


def test_a_sidecar_takes_peers_of_its_trust_domain_alone() -> None:
    found = context(mesh_server(CLUSTER_LOCAL, ()))
    assert found.require_client_certificate.value
    assert sans(found) == [("URI", "prefix", "spiffe://cluster.local/ns/")]


def test_a_resumed_session_would_not_be_validated() -> None:
    for socket in (mesh_server(CLUSTER_LOCAL, ()), gateway_server(MUTUAL, "shop", CLUSTER_LOCAL)):
        assert context(socket).disable_stateless_session_resumption
        assert context(socket).disable_stateful_session_resumption
    assert not context(gateway_server(SIMPLE, "shop", CLUSTER_LOCAL)).disable_stateful_session_resumption


def test_a_caller_expects_whole_identities() -> None:
    found = context(mesh_client(["spiffe://a/ns/x/sa/y", "spiffe://a/ns/x/sa/z"], "the-sni", ()))
    assert found.sni == "the-sni"
    assert sans(found) == [("URI", "exact", "spiffe://a/ns/x/sa/y"), ("URI", "exact", "spiffe://a/ns/x/sa/z")]


def test_a_gateway_shows_the_credentials_certificate() -> None:
    found = context(gateway_server(SIMPLE, "shop", CLUSTER_LOCAL))
    common = found.common_tls_context
    assert [one.name for one in common.tls_certificate_sds_secret_configs] == ["credential:shop/cert"]
    assert list(common.alpn_protocols) == ["h2", "http/1.1"]
    assert not found.require_client_certificate.value
    assert common.WhichOneof("validation_context_type") is None


def test_a_mutual_gateway_asks_for_certificates_of_the_credentials_authority() -> None:
    found = context(gateway_server(MUTUAL, "shop", CLUSTER_LOCAL))
    assert found.require_client_certificate.value
    assert found.common_tls_context.validation_context_sds_secret_config.name == "credential-ca:shop/clients"
    assert versions(found) == ("TLSv1_3", "TLSv1_3")
    assert list(found.common_tls_context.tls_params.cipher_suites) == ["AES128-SHA"]


def test_an_optional_certificate_is_validated_by_what_the_server_says() -> None:
    files = CertificateFiles("/c/tls.crt", "/c/tls.key")
    asked = ClientValidation(spki_hashes=("AA",), crl_file="/c/ca.crl", only_verify_leaf_crl=True)
    tls = ServerTls(ServerTlsMode.OPTIONAL_MUTUAL, (files, "rsa"), ca_file="/c/ca.crt", validation=asked)
    found = context(gateway_server(tls, "shop", CLUSTER_LOCAL))
    assert not found.require_client_certificate.value
    assert found.disable_stateless_session_resumption
    common = found.common_tls_context
    names = [one.name for one in common.tls_certificate_sds_secret_configs]
    assert sorted(names) == ["credential:shop/rsa", "file-cert:/c/tls.crt~/c/tls.key"]
    combined = common.combined_validation_context
    assert combined.validation_context_sds_secret_config.name == "file-root:/c/ca.crt~/c/ca.crl"
    assert list(combined.default_validation_context.verify_certificate_spki) == ["AA"]
    assert combined.default_validation_context.only_verify_leaf_cert_crl


def test_peers_of_the_mesh_at_a_gateway() -> None:
    tls = ServerTls(ServerTlsMode.ISTIO_MUTUAL, (), minimum_version=TlsVersion.TLSV1_3)
    found = context(gateway_server(tls, "shop", CLUSTER_LOCAL))
    assert found.require_client_certificate.value
    assert [one.name for one in found.common_tls_context.tls_certificate_sds_secret_configs] == ["default"]
    assert versions(found) == ("TLSv1_3", "TLSv1_3")


def test_a_compliance_policy_stands_alone() -> None:
    tls = replace(MUTUAL, compliance=CompliancePolicy.CNSA1_202603, ecdh_curves=())
    parameters = context(gateway_server(tls, "shop", CLUSTER_LOCAL)).common_tls_context.tls_params
    assert [parameters.CompliancePolicy.Name(one) for one in parameters.compliance_policies] == ["CNSA1_202603"]
    assert not parameters.cipher_suites
    curves = context(gateway_server(replace(SIMPLE, ecdh_curves=("P-384",)), "shop", CLUSTER_LOCAL))
    assert list(curves.common_tls_context.tls_params.ecdh_curves) == ["P-384"]
