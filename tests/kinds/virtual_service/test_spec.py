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


@pytest.mark.parametrize("answer", ["redirect: {uri: /x}", "directResponse: {status: 410}"])
@pytest.mark.parametrize(
    "field",
    [
        "timeout: 5s",
        "retries: {attempts: 1}",
        "mirror: {host: orders}",
        "mirrors: []",
        "mirrorPercentage: {value: 1}",
        "corsPolicy: {allowOrigins: [{exact: https://a.example}]}",
    ],
)
def test_what_has_no_effect_where_the_proxy_answers_itself(answer: str, field: str) -> None:
    done = compiled(service(f"- {field}\n  {answer}"), ORDERS)
    assert "7:5 warning ISM2151" in done.found
    assert done.mesh.routes
    response = compiled(service(f"- headers: {{request: {{remove: [a]}}, response: {{remove: [b]}}}}\n  {answer}"))
    assert response.found == ["7:15 warning ISM2151"]


@pytest.mark.parametrize(
    ("http", "found"),
    [
        ("- match: [{uri: {prefix: /}}]", "7:5 error ISM1106"),
        ("- redirect: {uri: /x}\n" + ROUTE, "8:12 error ISM1106"),
        ("- redirect: {uri: /x}\n  rewrite: {uri: /y}", "8:14 error ISM1106"),
        ("- redirect: {uri: /x}\n  fault: {abort: {httpStatus: 500, percentage: {value: 1}}}", "8:12 error ISM1106"),
        ("- directResponse: {status: 410}\n" + ROUTE, "8:12 error ISM1106"),
        ("- redirect: {uri: /x}\n  directResponse: {status: 410}", "8:21 error ISM1106"),
        ("- directResponse: {status: 410}\n  rewrite: {uri: /y}", "8:14 error ISM1106"),
        ("- delegate: {name: x}\n" + ROUTE, "8:12 error ISM1106"),
        ("- delegate: {name: x}\n  redirect: {uri: /x}", "7:15 error ISM1106"),
        ("- route:\n  redirect:", "7:5 error ISM1106"),
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
