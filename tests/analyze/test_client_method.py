from __future__ import annotations

import pytest

from isthmus.analyze.client_method import CHECK
from tests.analyze.manifest import GATEWAY, ORDERS, ROUTES, found, tokens

TOKENS = tokens("jwtRules: [{issuer: 'https://auth.example.com'}]", "edge")
ROUTE = "targetRefs: [{kind: VirtualService, name: shop}]"
EDGE = "targetRefs: [{kind: Gateway, name: edge, sectionName: SECTION}]"
TLS = (
    GATEWAY
    + """\
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: [secure.example.com]
      tls: {mode: OPTIONAL_MUTUAL, serverCertificate: /a, privateKey: /b, caCertificates: /c}
"""
)


def policy(methods: str, attached: str, namespace: str = "shop") -> str:
    metadata = f"metadata: {{name: it, namespace: {namespace}}}"
    head = f"apiVersion: isthmus.dev/v1alpha1\nkind: ClientAuthentication\n{metadata}\n"
    return f"{head}spec:\n  {attached}\n  methods: [{methods}]\n"


JWT = "{jwt: {issuers: [ISSUER]}}"


@pytest.mark.parametrize(
    ("attached", "namespace"), [(ROUTE, "shop"), (EDGE.replace("SECTION", "http"), "edge"), ("selector: {}", "edge")]
)
def test_an_issuer_needs_a_rule_with_its_keys(attached: str, namespace: str) -> None:
    known = policy(JWT.replace("ISSUER", "https://auth.example.com"), attached, namespace)
    assert found(CHECK, GATEWAY, ROUTES, ORDERS, TOKENS, known) == []
    (said,) = found(CHECK, GATEWAY, ROUTES, ORDERS, TOKENS, known.replace("auth.example.com", "auth.example.com/"))
    assert "ISM5100: no RequestAuthentication at edge/edge has the issuer https://auth.example.com/" in said


def test_at_a_workload_too() -> None:
    (said,) = found(CHECK, ORDERS, policy(JWT.replace("ISSUER", "https://a"), "selector: {matchLabels: {app: orders}}"))
    assert "ISM5100: no RequestAuthentication at shop/orders-1" in said


@pytest.mark.parametrize(
    ("method", "named"),
    [
        ("{certificate: {}}", "certificate"),
        ("{jwt: {issuers: [https://auth.example.com], boundToCertificate: true}}", "boundToCertificate"),
    ],
)
def test_a_server_that_asks_no_client_for_a_certificate(method: str, named: str) -> None:
    (said,) = found(CHECK, TLS, ROUTES, ORDERS, TOKENS, policy(method, ROUTE))
    assert f"ISM5101: edge/edge http asks no client for a certificate: {named}" in said
    at_http, at_https = (policy(method, EDGE.replace("SECTION", name), "edge") for name in ("http", "https"))
    assert len(found(CHECK, TLS, ROUTES, ORDERS, TOKENS, at_http)) == 1
    assert found(CHECK, TLS, ROUTES, ORDERS, TOKENS, at_https) == []


def test_where_labels_select_the_gateway_too() -> None:
    (said,) = found(CHECK, TLS, ROUTES, ORDERS, TOKENS, policy("{certificate: {}}", "selector: {}", "edge"))
    assert "ISM5101: edge/edge http asks no client" in said
