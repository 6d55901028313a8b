from __future__ import annotations

import pytest
from tests.kinds.client_traffic_policy.policy_manifest import GATEWAY, SECRETS
from tests.kinds.traffic_manifest import Compiled, compiled

from isthmus.kinds.client_traffic_policy.beside import HEALTH_PORT_TAKEN, NEVER_RESUMED, NO_CERTIFICATE
from isthmus.model.client_headers import CertificateDetail, ClientHeaders, HealthCheck, Resumption
from isthmus.model.gateway import Server

RESUMED = "tls: {session: {resumption: {stateless: {}}}}"
SECOND = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: second, namespace: shop}
spec:
  selector: {app: SELECTOR}
  servers:
  - {port: {number: 9000, name: http, protocol: HTTP}, hosts: ["*"]}
"""


def policy(said: str, section: str = "") -> str:
    """A ClientTrafficPolicy whose own words begin at 6:3."""
    named = f", sectionName: {section}" if section else ""
    return (
        "apiVersion: isthmus.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: own, namespace: shop}\n"
        f"spec:\n  targetRefs: [{{kind: Gateway, name: edge{named}}}]\n  {said}\n"
    )


def done(said: str, section: str = "", *beside: str) -> Compiled:
    return compiled(policy(said, section), GATEWAY, *SECRETS, *beside)


def server(found: Compiled, name: str) -> Server:
    return next(one for gateway in found.mesh.gateways for one in gateway.servers if one.port_name == name)


def codes(found: Compiled) -> list[str]:
    return [one for one in found.found if "ISM226" in one]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", ClientHeaders()),
        (
            "headers: {xForwardedClientCert: {certDetailsToAdd: [URI, URI]}}",
            ClientHeaders((CertificateDetail.URI,)),
        ),
        ("headers: {xForwardedClientCert: {mode: SanitizeSet}}", ClientHeaders()),
        ("headers: {xForwardedClientCert: {mode: Sanitize}}", ClientHeaders(None)),
        ("headers: {xForwardedClientCert: {certDetailsToAdd: []}}", ClientHeaders(())),
        ("headers: {clientCertificate: {}}", ClientHeaders(certificate="x-client-cert")),
        ("headers: {clientCertificate: {name: X-SSL-Cert}}", ClientHeaders(certificate="x-ssl-cert")),
    ],
)
def test_headers(said: str, expected: ClientHeaders) -> None:
    found = done(said or "tls: {minVersion: '1.3'}", "mutual")
    assert codes(found) == []
    assert server(found, "mutual").client_traffic.headers == expected


@pytest.mark.parametrize(
    "said",
    [
        "xForwardedClientCert: {mode: AppendForward}",
        "xForwardedClientCert: {mode: ForwardOnly}",
        "xForwardedClientCert: {mode: AlwaysForwardOnly}",
        "xForwardedClientCert: {mode: sanitize}",
        "xForwardedClientCert: {mode: Sanitize, certDetailsToAdd: [URI]}",
        "xForwardedClientCert: {certDetailsToAdd: [Hash]}",
        "clientCertificate: {name: authorization}",
        "clientCertificate: {name: X-Forwarded-For}",
        "clientCertificate: {name: x-envoy-cert}",
        "clientCertificate: {name: x_client_cert}",
        "clientCertificate: {name: 'x-a b'}",
        "clientCertificate: {name: ':path'}",
    ],
)
def test_headers_that_others_could_write_or_that_are_others(said: str) -> None:
    found = done(f"headers: {{{said}}}", "mutual")
    assert any(" error ISM1" in one for one in found.found), found.found


def test_headers_where_nobody_is_asked() -> None:
    assert NO_CERTIFICATE.id == "ISM2262"
    said = "headers: {clientCertificate: {}}"
    assert codes(done(said, "simple")) == ["6:12 warning ISM2262"]
    assert codes(done(said, "http")) == ["6:12 warning ISM2262"]
    assert codes(done(said)) == [], "one of its servers asks"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("tls: {session: {resumption: {stateless: {}}}}", Resumption(True, False)),
        ("tls: {session: {resumption: {stateful: {}}}}", Resumption(False, True)),
        ("tls: {session: {resumption: {stateless: {}, stateful: {}}}}", Resumption(True, True)),
        ("tls: {session: {resumption: {}}}", Resumption(False, False)),
        ("tls: {session: {}}", None),
    ],
)
def test_sessions(said: str, expected: Resumption | None) -> None:
    found = done(said, "simple")
    assert codes(found) == []
    tls = server(found, "simple").tls
    assert tls is not None
    assert tls.resumption == expected


def test_sessions_where_certificates_are_asked_for() -> None:
    assert NEVER_RESUMED.id == "ISM2260"
    assert codes(done(RESUMED, "mutual")) == ["6:18 warning ISM2260"]
    assert codes(done("tls: {session: {resumption: {}}}", "mutual")) == []
    assert codes(done(RESUMED, "simple")) == []


@pytest.mark.parametrize("path", ["healthz", "", "/a?b", "/a b", "/%61", "/a;b"])
def test_a_path_is_a_plain_one(path: str) -> None:
    found = done(f"healthCheck: {{port: 15021, path: '{path}'}}")
    assert any(" error ISM1" in one for one in found.found)


def test_a_health_check() -> None:
    found = done("healthCheck: {port: 15021, path: /healthz}")
    assert codes(found) == []
    assert server(found, "mutual").client_traffic.health_check == HealthCheck(15021, "/healthz")


@pytest.mark.parametrize(
    ("port", "selector", "taken"),
    [(443, "other", True), (444, "other", True), (9000, "edge", True), (9000, "b", False)],
)
def test_a_health_check_has_a_port_of_its_own(port: int, selector: str, taken: bool) -> None:
    """None of the same proxies' servers, whichever Gateway's they are."""
    assert HEALTH_PORT_TAKEN.id == "ISM2261"
    found = done(f"healthCheck: {{port: {port}, path: /healthz}}", "", SECOND.replace("SELECTOR", selector))
    assert codes(found) == (["6:23 error ISM2261"] if taken else [])
    check = server(found, "mutual").client_traffic.health_check
    assert check == (None if taken else HealthCheck(port, "/healthz"))
