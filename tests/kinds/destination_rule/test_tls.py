from __future__ import annotations

import pytest
from traffic_manifest import ORDERS, Compiled, compiled, networking

from isthmus.model.traffic_policy import CertificateFiles, ClientTls, TlsMode


def rule(written: str, *others: str) -> Compiled:
    """``written`` begins at 6:24."""
    spec = f"host: orders\ntrafficPolicy: {{tls: {{{written}}}}}"
    return compiled(networking("DestinationRule", spec, "orders"), ORDERS, *others)


def read(done: Compiled) -> ClientTls | None:
    return done.mesh.services["orders.shop.svc.cluster.local"].policy.traffic.everywhere.tls


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("mode: DISABLE", ClientTls(TlsMode.DISABLE)),
        ("mode: ISTIO_MUTUAL", ClientTls(TlsMode.ISTIO_MUTUAL)),
        (
            "mode: ISTIO_MUTUAL, sni: a.b, subjectAltNames: ['spiffe://a/b']",
            ClientTls(TlsMode.ISTIO_MUTUAL, "a.b", ("spiffe://a/b",)),
        ),
        ("mode: SIMPLE", ClientTls(TlsMode.SIMPLE)),
        ("mode: SIMPLE, caCertificates: system", ClientTls(TlsMode.SIMPLE)),
        (
            "mode: SIMPLE, caCertificates: /ca.pem, caCrl: /crl.pem, sni: a.b, subjectAltNames: [c.d]",
            ClientTls(TlsMode.SIMPLE, "a.b", ("c.d",), "/ca.pem", "/crl.pem"),
        ),
        (
            "mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem",
            ClientTls(TlsMode.MUTUAL, certificate=CertificateFiles("/c.pem", "/k.pem")),
        ),
    ],
)
def test_modes(written: str, expected: ClientTls) -> None:
    done = rule(written)
    assert (done.found, read(done)) == ([], expected)


def test_taking_any_certificate_is_told() -> None:
    done = rule("mode: SIMPLE, insecureSkipVerify: true")
    assert done.found == ["6:39 warning ISM2141"]
    assert read(done) == ClientTls(TlsMode.SIMPLE, skip_verify=True)
    assert rule("mode: SIMPLE, insecureSkipVerify: false").found == []


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("", "6:24 error ISM1103"),
        ("mode: TLS", "6:31 error ISM1106"),
        ("mode: AUTO", "6:31 error ISM1106"),
        ("mode: MUTUAL", "6:31 error ISM1106"),
        ("mode: MUTUAL, clientCertificate: /c.pem", "6:31 error ISM1106"),
        ("mode: SIMPLE, caCertificates: ca.pem", "6:55 error ISM1106"),
        ("mode: SIMPLE, caCertificates: /c~a.pem", "6:55 error ISM1106"),
        ("mode: SIMPLE, privateKey: /k.pem", "6:51 error ISM1106"),
        ("mode: DISABLE, sni: a.b", "6:45 error ISM1106"),
        ("mode: DISABLE, subjectAltNames: [a]", "6:57 error ISM1106"),
        ("mode: ISTIO_MUTUAL, caCertificates: /ca.pem", "6:61 error ISM1106"),
        ("mode: ISTIO_MUTUAL, credentialName: a", "6:61 error ISM1106"),
        ("mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]", "6:82 error ISM1106"),
        ("mode: SIMPLE, insecureSkipVerify: true, credentialName: a", "6:81 error ISM1106"),
        ("mode: MUTUAL, credentialName: a, privateKey: /k.pem", "6:70 error ISM1106"),
        ("mode: SIMPLE, credentialName: b/a", "6:55 error ISM1106"),
        ("mode: SIMPLE, subjectAltNames: ['*.example.com']", "6:57 error ISM1106"),
        ("mode: SIMPLE, subjectAltNames: ['']", "6:57 error ISM1106"),
    ],
)
def test_what_would_promise_what_is_not_done(written: str, found: str) -> None:
    done = rule(written)
    errors = [one for one in done.found if "warning" not in one]
    assert errors == [found]
    assert read(done) is None
