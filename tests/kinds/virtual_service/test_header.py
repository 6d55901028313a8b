from __future__ import annotations

import pytest
from traffic_manifest import ORDERS, Compiled, compiled, networking

from isthmus.model.route import Forward, HeaderOperations, Headers


def route(headers: str) -> Compiled:
    """``headers`` begins at 7:14."""
    spec = f"hosts: [orders]\nhttp:\n- headers: {headers}\n  route: [{{destination: {{host: orders}}}}]"
    return compiled(networking("VirtualService", spec), ORDERS)


def test_operations_on_both_ways() -> None:
    done = route("{request: {set: {X-A: '1'}, add: {x-b: '2'}, remove: [x-c]}, response: {remove: [server]}}")
    assert done.found == []
    assert done.mesh.routes[0].routes[0].headers == Headers(
        HeaderOperations((("X-A", "1"),), (("x-b", "2"),), ("x-c",)), HeaderOperations(remove=("server",))
    )


@pytest.mark.parametrize("name", ["host", "Host", '":authority"'])
def test_the_authority_is_set_by_any_of_its_names(name: str) -> None:
    done = route(f"{{request: {{set: {{{name}: a.example.com}}}}}}")
    assert done.mesh.routes[0].routes[0].headers.request.set == (("Host", "a.example.com"),)


def test_operations_of_one_destination() -> None:
    spec = "hosts: [orders]\nhttp:\n- route: [{destination: {host: orders}, headers: {request: {remove: [x-a]}}}]"
    done = compiled(networking("VirtualService", spec), ORDERS)
    action = done.mesh.routes[0].routes[0].action
    assert isinstance(action, Forward)
    assert action.destinations[0].headers.request.remove == ("x-a",)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ('{request: {set: {"a b": c}}}', "7:38 error ISM1106"),
        ('{request: {add: {":path": c}}}', "7:40 error ISM1106"),
        ('{request: {remove: ["a:"]}}', "7:34 error ISM1106"),
        ('{request: {set: {a: "b\\nc"}}}', "7:34 error ISM1106"),
        ("{request: {set: {a: 1}}}", "7:34 error ISM1102"),
        ("{requests: {}}", "7:15 error ISM1101"),
    ],
)
def test_operations_that_cannot_be_read(headers: str, found: str) -> None:
    done = route(headers)
    assert done.found == [found]
    assert not done.mesh.routes
