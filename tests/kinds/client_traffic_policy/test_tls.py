from __future__ import annotations

import base64

import pytest
from tests.kinds.client_traffic_policy.policy_manifest import done, policy

from isthmus.model.client_traffic import ClientValidation, CompliancePolicy, TlsVersion

PIN = base64.b64encode(bytes(32)).decode()


def test_everything_at_once() -> None:
    validation = (
        f"{{spkiHashes: ['{PIN}'], certificateHashes: ['{'ab' * 32}'], "
        "crl: {refs: [{name: list}], onlyVerifyLeafCertificate: true}}"
    )
    spoken = "minVersion: '1.2', maxVersion: Auto, ciphers: [ECDHE-RSA-AES128-GCM-SHA256], ecdhCurves: [P-384]"
    found = done(policy(f"{{{spoken}, clientValidation: {validation}}}", "mutual"))
    assert found.found == []
    (tls,) = (server.tls for server in found.mesh.gateways[0].servers if server.port_name == "mutual")
    assert tls is not None
    assert (tls.minimum_version, tls.maximum_version) == (TlsVersion.TLSV1_2, TlsVersion.TLSV1_3)
    assert (tls.cipher_suites, tls.ecdh_curves) == (("ECDHE-RSA-AES128-GCM-SHA256",), ("P-384",))
    assert tls.validation == ClientValidation(
        spki_hashes=(PIN,), certificate_hashes=("ab" * 32,), crl_secrets=("list",), only_verify_leaf_crl=True
    )


def test_a_compliance_policy() -> None:
    found = done(policy("{compliancePolicy: CNSA1_202603}", "simple"))
    assert found.found == []
    (tls,) = (server.tls for server in found.mesh.gateways[0].servers if server.port_name == "simple")
    assert tls is not None
    assert tls.compliance is CompliancePolicy.CNSA1_202603


@pytest.mark.parametrize(
    ("tls", "found"),
    [
        ("{minVersion: '1.1'}", "6:21 error ISM1106"),
        ("{minVersion: 1.2}", "6:21 error ISM1102"),
        ("{minVersion: '1.4'}", "6:21 error ISM1106"),
        ("{minVersion: '1.3', maxVersion: '1.2'}", "6:21 error ISM1106"),
        ("{minVersion: '1.3', ciphers: [AES128-SHA]}", "6:37 error ISM1106"),
        ("{ciphers: [RC4-SHA]}", "6:19 error ISM1106"),
        ("{ecdhCurves: [P-192]}", "6:22 error ISM1106"),
        ("{compliancePolicy: FIPS_202205, maxVersion: '1.3'}", "6:52 error ISM1106"),
        ("{signatureAlgorithms: [x]}", "6:9 error ISM1105"),
        ("{alpnProtocols: [h2]}", "6:9 error ISM1105"),
        ("{clientValidation: {}}", "6:27 error ISM1106"),
        ("{clientValidation: {optional: true}}", "6:28 error ISM1105"),
        ("{clientValidation: {caCertificateRefs: []}}", "6:28 error ISM1105"),
        ("{clientValidation: {spkiHashes: [AAAA]}}", "6:41 error ISM1106"),
        ("{clientValidation: {certificateHashes: [AAAA]}}", "6:48 error ISM1106"),
        ("{clientValidation: {crl: {}}}", "6:33 error ISM1106"),
        ("{clientValidation: {crl: {file: crl.pem}}}", "6:40 error ISM1106"),
        ("{clientValidation: {crl: {refs: [{name: a/b}]}}}", "6:48 error ISM1106"),
        ("{clientValidation: {crl: {refs: [{kind: ConfigMap, name: a}]}}}", "6:48 error ISM1106"),
    ],
)
def test_what_cannot_be(tls: str, found: str) -> None:
    assert [one for one in done(policy(tls, "mutual")).found if "ISM2006" not in one] == [found]
