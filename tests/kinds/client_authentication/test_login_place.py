from __future__ import annotations

from tests.kinds.client_authentication.test_oidc import LEAST, SECRET
from tests.kinds.traffic_manifest import ORDERS, compiled, networking

from isthmus.kinds.client_authentication.login_place import (
    ANY_HOST,
    ASKED_FOR_ALL_THE_SAME,
    NO_TLS,
    NOT_AT_A_GATEWAY,
    SAME_PATHS,
)

SERVERS = """\
selector: {{app: edge}}
servers:
- port: {{number: {port}, name: {name}, protocol: {name}}}
  hosts: [{host}]
  {tls}
"""
TABLE = """\
hosts: [{hosts}]
gateways: [edge]
http:
- {{name: a, match: [{{uri: {{prefix: /a}}}}], route: [{{destination: {{host: orders}}}}]}}
- {{name: b, route: [{{destination: {{host: orders}}}}]}}
"""
WORKLOAD = networking("WorkloadEntry", "address: 127.0.0.1\nlabels: {app: orders}\nports: {http: 8080}", "orders-1")


def edge(host: str = "shop.example.com", *, plain: bool = False, tls: str = "") -> str:
    given = tls or ("" if plain else "tls: {mode: SIMPLE, credentialName: shop}")
    port, name = (80, "HTTP") if plain else (443, "HTTPS")
    return networking("Gateway", SERVERS.format(port=port, name=name, host=f"'{host}'", tls=given), "edge")


def table(hosts: str = "shop.example.com") -> str:
    return networking("VirtualService", TABLE.format(hosts=f"'{hosts}'"), "web")


def policy(name: str = "a", said: str = "", *, where: str = "", required: str = "") -> str:
    target = where or f"targetRefs: [{{kind: VirtualService, name: web, sectionName: {name}}}]"
    return (
        f"apiVersion: isthmus.dev/v1alpha1\nkind: ClientAuthentication\nmetadata: {{name: {name}, namespace: shop}}\n"
        f"spec:\n  {target}\n  {required}\n  methods: [{{oidc: {{{LEAST}{said}}}}}]\n"
    )


def codes(*texts: str) -> set[str]:
    found = compiled(*texts, ORDERS, SECRET).diagnostics
    return {one.code.id for one in found if one.code.id.startswith("ISM243")}


def test_a_login_in_its_place_is_no_finding() -> None:
    other = ", redirectPath: /b/callback, logoutPath: /b/logout"
    assert codes(edge(), table(), policy(), policy("b", other)) == set()


def test_no_tls() -> None:
    assert codes(edge(plain=True), table(), policy()) == {NO_TLS.id}
    assert codes(edge(plain=True, tls="tls: {httpsRedirect: true}"), table(), policy()) == set()


def test_two_logins_with_one_path() -> None:
    assert codes(edge(), table(), policy(), policy("b")) == {SAME_PATHS.id}
    assert codes(edge(), table(), policy(), policy("b", ", redirectPath: /b")) == {SAME_PATHS.id}


def test_any_host() -> None:
    assert codes(edge("*"), table("*"), policy()) == {ANY_HOST.id}
    assert codes(edge("*"), table("*"), policy("a", ", allowedRedirectDomains: [localhost]")) == set()
    assert codes(edge("*"), table("shop.example.com"), policy()) == set()


def test_a_login_that_is_not_required() -> None:
    assert codes(edge(), table(), policy(required="required: false")) == {ASKED_FOR_ALL_THE_SAME.id}


def test_a_login_at_a_workload() -> None:
    selector = "selector: {matchLabels: {app: orders}}"
    assert codes(edge(), table(), WORKLOAD, policy(where=selector)) == {NOT_AT_A_GATEWAY.id}
    assert codes(edge(), table(), WORKLOAD, policy(where="selector: {matchLabels: {app: edge}}")) == set()
