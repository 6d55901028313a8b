from __future__ import annotations

import pytest
from traffic_manifest import ORDERS, compiled, networking

ROUTE = "route: [{destination: {host: orders}}]"


def text(sort: str, route: str, hosts: str = "[orders, '*.example.com']") -> str:
    """The route begins at 6:9."""
    return networking("VirtualService", f"hosts: {hosts}\n{sort}: [{route}]")


@pytest.mark.parametrize(
    ("sort", "route", "found"),
    [
        ("tcp", f"{{{ROUTE}}}", []),
        ("tcp", f"{{match: [], {ROUTE}}}", []),
        ("tcp", "{match: [{port: 5432}]}", ["error ISM1103"]),
        ("tcp", "{route: []}", ["error ISM1106"]),
        ("tcp", f"{{match: [{{port: 0}}], {ROUTE}}}", ["error ISM1106"]),
        ("tcp", f"{{match: [{{sniHosts: [a.example.com]}}], {ROUTE}}}", ["error ISM1101"]),
        ("tcp", f"{{match: [{{sourceSubnet: 10.0.0.0/8}}], {ROUTE}}}", ["error ISM1105"]),
        ("tcp", f"{{match: [{{destinationSubnets: [10.0.0.0/33]}}], {ROUTE}}}", ["error ISM1106"]),
        ("tcp", "{route: [{destination: {host: orders}, weight: -1}]}", ["error ISM1106"]),
        ("tcp", "{route: [{destination: {host: orders}}, {destination: {host: orders}}]}", ["error ISM1106"]),
        ("tcp", "{route: [{destination: {host: orders}, headers: {}}]}", ["error ISM1101"]),
        ("tcp", "{route: [{destination: {host: cart}}]}", ["error IST0101"]),
        ("tls", f"{{match: [{{sniHosts: [a.example.com, '*.b.example.com', '*.example.com']}}], {ROUTE}}}", []),
        ("tls", f"{{{ROUTE}}}", ["error ISM1103"]),
        ("tls", f"{{match: [], {ROUTE}}}", ["error ISM1106"]),
        ("tls", f"{{match: [{{port: 443}}], {ROUTE}}}", ["error ISM1103"]),
        ("tls", f"{{match: [{{sniHosts: []}}], {ROUTE}}}", ["error ISM1106"]),
        ("tls", f"{{match: [{{sniHosts: ['a.*.com']}}], {ROUTE}}}", ["error ISM1106"]),
    ],
)
def test_reading(sort: str, route: str, found: list[str]) -> None:
    assert [one.partition(" ")[2] for one in compiled(text(sort, route), ORDERS).found] == found


@pytest.mark.parametrize(
    ("name", "outside"),
    [
        ("db.example.com", False),
        ("DB.Example.com.", False),
        ("db.example.org", True),
        ("*.example.org", True),
        ("*.com", True),
        ("example.com", True),
    ],
)
def test_server_names_are_within_the_hosts(name: str, outside: bool) -> None:
    """ISM2160, as Istio refuses it, at the name itself."""
    done = compiled(text("tls", f"{{match: [{{sniHosts: ['{name}']}}], {ROUTE}}}"), ORDERS)
    assert done.found == (["6:30 error ISM2160"] if outside else [])
