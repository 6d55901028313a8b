from __future__ import annotations

from datetime import timedelta

import pytest
from traffic_manifest import EDGE, ORDERS, compiled, networking

from isthmus.model.route import Forward, Redirect

ROUTE = "  route: [{destination: {host: orders}}]"


def service(http: str, hosts: str = "[orders]") -> str:
    """Routes begin at line 7."""
    return networking("VirtualService", f"hosts: {hosts}\nhttp:\n{http}")


def test_a_name_and_a_timeout() -> None:
    done = compiled(service(f"- name: first\n  timeout: 1500ms\n{ROUTE}"), ORDERS)
    assert done.found == []
    route = done.mesh.routes[0].routes[0]
    assert route.name == "first"
    assert isinstance(route.action, Forward)
    assert route.action.timeout == timedelta(seconds=1.5)
    assert not route.filters


@pytest.mark.parametrize("field", ["mirror: {host: x}", "mirrors: []", "corsPolicy: {}", "mirrorPercentage: {}"])
def test_fields_without_effect_are_warned_about(field: str) -> None:
    done = compiled(service(f"- {field}\n{ROUTE}"), ORDERS)
    assert done.found == ["7:5 warning ISM1104"]
    assert done.mesh.routes


@pytest.mark.parametrize("field", ["directResponse: {status: 410}", "delegate: {name: x}"])
def test_an_answer_that_is_not_supported_refuses_the_whole(field: str) -> None:
    """Left out, a later route would answer in its place."""
    done = compiled(service(f"- {field}\n- route: [{{destination: {{host: orders}}}}]"), ORDERS)
    assert [found.split()[1:] for found in done.found] == [["error", "ISM2101"]]
    assert done.found[0].startswith("7:")
    assert not done.mesh.routes


@pytest.mark.parametrize(
    ("http", "found"),
    [
        ("- match: [{uri: {prefix: /}}]", "7:5 error ISM1106"),
        ("- redirect: {uri: /x}\n" + ROUTE, "8:12 error ISM1106"),
        ("- redirect: {uri: /x}\n  rewrite: {uri: /y}", "8:14 error ISM1106"),
        ("- redirect: {uri: /x}\n  fault: {abort: {httpStatus: 500, percentage: {value: 1}}}", "8:12 error ISM1106"),
        ("- timeout: 0s\n" + ROUTE, "7:14 error ISM1106"),
        ("- timeout: 5 seconds\n" + ROUTE, "7:14 error ISM1106"),
        ("- tiemout: 5s\n" + ROUTE, "7:5 error ISM1101"),
        ("- route: [{destination: {host: orders}}, {destination: {host: orders}}]", "7:12 error ISM1106"),
        ("- route: [{destination: {host: orders}, weight: -1}]", "7:51 error ISM1106"),
        ("- route: [{destination: {host: '*.x'}}]", "7:34 error ISM1106"),
        ("- route: [{destination: {}}]", "7:27 error ISM1103"),
    ],
)
def test_routes_that_cannot_be_read(http: str, found: str) -> None:
    done = compiled(service(http), ORDERS)
    assert done.found == [found]
    assert not done.mesh.routes


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ('hosts: ["*"]', "5:11 error ISM1106"),
        ('hosts: ["a*.com"]', "5:11 error ISM1106"),
        ('hosts: ["*a.com"]', "5:11 error ISM1106"),
        ('hosts: ["a_b.-c"]', "5:11 error ISM1106"),
        ("hosts: []", "5:10 error ISM1106"),
        ("gateways: [a/b/c]\nhosts: [a.com]", "5:14 error ISM1106"),
        ('exportTo: ["."]\nhosts: [a.com]', "5:13 error ISM1105"),
    ],
)
def test_specs_that_cannot_be_read(spec: str, found: str) -> None:
    done = compiled(
        networking("VirtualService", f"{spec}\nhttp:\n- route: [{{destination: {{host: orders}}}}]"), ORDERS
    )
    assert done.found == [found]


def test_a_virtual_service_needs_routes() -> None:
    assert compiled(networking("VirtualService", "hosts: [orders]")).found == ["5:3 error ISM1106"]
    assert compiled(networking("VirtualService", "hosts: [orders]\nhttp: []")).found == ["6:9 error ISM1106"]


def test_exported_to_all_is_the_default() -> None:
    spec = 'hosts: [orders]\nexportTo: ["*"]\nhttp:\n- route: [{destination: {host: orders}}]'
    assert compiled(networking("VirtualService", spec), ORDERS).found == []


def test_every_host_at_a_gateway() -> None:
    spec = 'hosts: ["*"]\ngateways: [edge]\nhttp:\n- redirect: {scheme: https}'
    done = compiled(networking("VirtualService", spec), EDGE)
    assert done.found == []
    assert done.mesh.routes[0].hosts == ("*",)
    assert done.mesh.routes[0].routes[0].action == Redirect(scheme="https")
