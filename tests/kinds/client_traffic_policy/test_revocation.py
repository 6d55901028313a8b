from __future__ import annotations

from datetime import timedelta

import pytest
from tests.kinds.client_traffic_policy.policy_manifest import done, policy

from isthmus.model.revocation import ClientOcsp, CrlPoints, OcspMode, StaplePolicy

URL = "http://ca.example/clients.crl"


def test_distribution_points() -> None:
    found = done(
        policy(f"{{clientValidation: {{crl: {{distributionPoints: ['{URL}'], fromCertificates: true}}}}}}", "mutual")
    )
    assert found.found == []
    (tls,) = (server.tls for server in found.mesh.gateways[0].servers if server.port_name == "mutual")
    assert tls is not None
    assert tls.validation.crl_points == CrlPoints((URL,), from_certificates=True)


def test_ocsp() -> None:
    written = "{mode: BestEffort, responder: 'https://ocsp.example/', timeout: 500ms, maxAge: 10m}"
    found = done(policy(f"{{clientValidation: {{ocsp: {written}}}, ocspStapling: Must}}", "mutual"))
    assert found.found == []
    (tls,) = (server.tls for server in found.mesh.gateways[0].servers if server.port_name == "mutual")
    assert tls is not None
    half, ten = timedelta(milliseconds=500), timedelta(minutes=10)
    assert tls.validation.ocsp == ClientOcsp(OcspMode.BEST_EFFORT, "https://ocsp.example/", half, ten)
    assert tls.staple is StaplePolicy.MUST


@pytest.mark.parametrize(
    "tls",
    [
        "{clientValidation: {crl: {distributionPoints: []}}}",
        "{clientValidation: {crl: {distributionPoints: ['ldap://ca.example']}}}",
        "{clientValidation: {crl: {distributionPoints: ['http:///x']}}}",
        "{clientValidation: {crl: {distributionPoints: ['http://me:secret@ca.example/']}}}",
        "{clientValidation: {crl: {distributionPoints: ['http://ca.example/a b']}}}",
        "{clientValidation: {crl: {fromCertificates: false}}}",
        "{clientValidation: {ocsp: {mode: Never}}}",
        "{clientValidation: {ocsp: {mode: Required, timeout: 31s}}}",
        "{clientValidation: {ocsp: {mode: Required, maxAge: 10ms}}}",
        "{ocspStapling: Maybe}",
    ],
)
def test_what_is_not_taken(tls: str) -> None:
    found = done(policy(tls, "mutual"))
    assert [one.split()[-1] for one in found.found] == ["ISM2006", "ISM1106"]


CRL = f"{{clientValidation: {{crl: {{distributionPoints: ['{URL}']}}}}}}"
OCSP = "{clientValidation: {ocsp: {mode: Required}}}"


@pytest.mark.parametrize(
    ("tls", "section"), [(CRL, "file"), (CRL, "mesh"), (OCSP, "file"), (OCSP, "mesh"), (CRL, "simple")]
)
def test_servers_that_cannot_do_it_are_not_opened(tls: str, section: str) -> None:
    found = done(policy(tls, section))
    assert [one.split()[2] for one in found.found] == ["ISM2111"]
    assert section not in {server.port_name for server in found.mesh.gateways[0].servers}


def test_plain_connections_are_not_asked_about() -> None:
    gateway = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: tcp, namespace: shop}
spec:
  selector: {app: tcp}
  servers:
  - port: {number: 9000, name: tcp, protocol: TLS}
    hosts: [t.example.com]
    tls: {mode: MUTUAL, credentialName: server}
"""
    found = done(gateway, policy(OCSP, "tcp", target="tcp"))
    assert [one.split()[2] for one in found.found] == ["ISM2111"]
