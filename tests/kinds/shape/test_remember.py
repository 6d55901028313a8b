from __future__ import annotations

from typing import Any

from tests.xds.making import origin

from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Ref, Report, Severity, Source
from isthmus.kinds.shape.remember import remembered
from isthmus.model.cluster import Resolution, Service
from isthmus.model.mesh import Mesh

MISSING = Code("TEST1", Severity.WARNING, "Missing", 'no "{name}"', what="", why="", example="", fix="")
RUNS: list[str] = []


def resource(name: str = "web") -> Resource[Any]:
    source = Source("web.yaml", 1, 1)
    ref = Ref("Test", "shop", name)
    return Resource(ref, source, {}, {}, None, Node(name, source, "", ref))


def service(host: str) -> Service:
    return Service(host, "shop", (), Resolution.WORKLOADS, origin(host))


@remembered
def described(one: Resource[Any], extra: tuple[str, ...], mesh: Mesh, report: Report) -> str:
    RUNS.append(one.name)
    found = mesh.services.get(one.name)
    if found is None:
        report.add(MISSING, one.root, name=one.name)
    return f"{found.host if found else '-'} {' '.join(extra)}"


def told(one: Resource[Any], mesh: Mesh, *extra: str) -> tuple[str, list[str], int]:
    RUNS.clear()
    report = Report()
    result = described(one, extra, mesh, report)
    return result, [found.message for found in report], len(RUNS)


def test_it_runs_again_when_the_mesh_answers_something_else() -> None:
    web, orders = service("web"), service("orders")
    one = resource()
    assert told(one, Mesh(services={"web": web})) == ("web ", [], 1)
    assert told(one, Mesh(services={"orders": orders, "web": web})) == ("web ", [], 0)
    assert told(one, Mesh(services={"orders": orders})) == ("- ", ['no "web"'], 1)
    assert told(one, Mesh()) == ("- ", ['no "web"'], 0), "a finding comes back from memory"
    assert told(one, Mesh(services={"web": web})) == ("web ", [], 1)


def test_other_arguments_and_other_resources_are_other_results() -> None:
    one, mesh = resource(), Mesh(services={"web": service("web")})
    assert told(one, mesh, "a") == ("web a", [], 1)
    assert told(one, mesh, "a") == ("web a", [], 0)
    assert told(one, mesh, "b") == ("web b", [], 1)
    assert told(resource(), mesh, "b") == ("web b", [], 1)


@remembered
def named(one: Resource[Any]) -> list[str]:
    return [one.name]


def test_what_needs_no_mesh_is_made_once() -> None:
    one = resource()
    assert named(one) == ["web"]
    assert named(one) is named(one)
