from __future__ import annotations

import pytest
from traffic_manifest import ORDERS, compiled, core, networking


def entry(host: str, port: str = "{number: 80, name: http, protocol: HTTP}", resolution: str = "DNS") -> str:
    return networking("ServiceEntry", f"hosts: ['{host}']\nports: [{port}]\nresolution: {resolution}", "api")


def rule(host: str, policy: str) -> str:
    """``policy`` begins at 6:18."""
    return networking("DestinationRule", f"host: '{host}'\ntrafficPolicy: {{{policy}}}", "api")


@pytest.mark.parametrize("mode", ["SIMPLE", "MUTUAL"])
def test_a_credential_that_nobody_has(mode: str) -> None:
    written = rule("api.example.com", f"tls: {{mode: {mode}, credentialName: partner}}")
    done = compiled(written, entry("api.example.com"))
    assert done.found == ["6:55 error ISM2142"]
    assert 'no namespace has a Secret "partner" with ' in done.messages
    other = core("Secret", "stringData: {password: x}", "partner")
    assert compiled(written, entry("api.example.com"), other).found == ["6:55 error ISM2142"]


def test_a_plain_connection_to_a_wildcard_has_no_name_to_verify() -> None:
    tcp = "{number: 443, name: tcp, protocol: TCP}, {number: 80, name: http, protocol: HTTP}"
    wild = entry("*.example.com", tcp, "STATIC\nendpoints: [{address: 192.0.2.1}]")
    assert compiled(rule("*.example.com", "tls: {mode: SIMPLE}"), wild).found == ["6:24 error ISM2143"]
    assert compiled(rule("*.example.com", "tls: {mode: SIMPLE, sni: a.b}"), wild).found == []
    port = "portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]"
    assert compiled(rule("*.example.com", port), wild).found == []


@pytest.mark.parametrize(
    ("endpoints", "written", "found"),
    [
        (1, "", ["6:37 warning ISM2144"]),
        (2, "maxEjectionPercent: 49", ["6:37 warning ISM2144"]),
        (2, "maxEjectionPercent: 50", []),
        (2, "maxEjectionPercent: 0", []),
        (10, "", []),
    ],
)
def test_a_share_that_rounds_to_nobody(endpoints: int, written: str, found: list[str]) -> None:
    addresses = ", ".join(f"{{address: 192.0.2.{number}}}" for number in range(1, endpoints + 1))
    there = entry("api.example.com", resolution=f"STATIC\nendpoints: [{addresses}]")
    assert compiled(rule("api.example.com", f"outlierDetection: {{{written}}}"), there).found == found


def test_hosts_that_callers_resolve_themselves() -> None:
    passing = entry("*.example.com", resolution="NONE")
    done = compiled(rule("*.example.com", "tls: {mode: SIMPLE}"), passing)
    assert done.found == ["6:18 error ISM2145"]
    assert compiled(rule("orders", ""), ORDERS).found == []


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ("connectionPool: {tcp: {maxConnections: 10}}", ["6:60 warning ISM2146"]),
        ("tls: {mode: SIMPLE}", []),
        ("tls: {mode: DISABLE}", []),
    ],
)
def test_settings_of_a_port_that_drop_the_tls_of_all(own: str, found: list[str]) -> None:
    written = f"tls: {{mode: SIMPLE}}, portLevelSettings: [{{port: {{number: 80}}, {own}}}]"
    assert compiled(rule("api.example.com", written), entry("api.example.com")).found == found
    without = f"tls: {{mode: DISABLE}}, portLevelSettings: [{{port: {{number: 80}}, {own}}}]"
    assert compiled(rule("api.example.com", without), entry("api.example.com")).found == []


def test_settings_of_a_subsets_port_drop_the_tls_of_its_service() -> None:
    spec = "host: orders\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n"
    subset = "subsets: [{name: v1, trafficPolicy: {portLevelSettings: [{port: {number: 80}}]}}]"
    assert "ISM2146" in str(compiled(networking("DestinationRule", spec + subset, "api"), ORDERS).found)
