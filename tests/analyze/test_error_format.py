from __future__ import annotations

from isthmus.analyze.error_format import CHECK
from tests.analyze.manifest import found

TOLD = "{format: PROBLEM_JSON, reason: true}"


def gateway(name: str, *servers: str) -> str:
    return (
        f"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: shop}}\n"
        f"spec: {{selector: {{istio: edge}}, servers: [{', '.join(servers)}]}}\n"
    )


def server(port: int, host: str) -> str:
    return f"{{port: {{number: {port}, name: {host.partition('.')[0]}, protocol: HTTP}}, hosts: [{host}]}}"


def policy(errors: str, gateway: str = "one", section: str = "") -> str:
    target = f"{{kind: Gateway, name: {gateway}" + (f", sectionName: {section}}}" if section else "}")
    return (
        f"apiVersion: isthmus.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {{name: {gateway}, namespace: shop}}\n"
        f"spec: {{targetRefs: [{target}], errors: {errors}}}\n"
    )


def test_two_servers_of_one_port() -> None:
    both = gateway("one", server(80, "a.example.com"), server(80, "b.example.com"))
    (only,) = found(CHECK, both, policy(TOLD, section="a"))
    assert "warning ISM5130: errors has no effect on port 80: Gateway/shop/one has the same port" in only
    assert found(CHECK, both, policy(TOLD)) == [], "both say the same"


def test_two_gateways_of_one_port() -> None:
    one, two = gateway("one", server(80, "a.example.com")), gateway("two", server(80, "b.example.com"))
    (only,) = found(CHECK, one, two, policy(TOLD))
    assert "Gateway/shop/two" in only
    assert len(found(CHECK, one, two, policy(TOLD), policy("{format: PROBLEM_JSON}", "two"))) == 2
    assert found(CHECK, one, two, policy(TOLD), policy(TOLD, "two")) == []
    assert found(CHECK, one, gateway("two", server(81, "b.example.com")), policy(TOLD)) == []
