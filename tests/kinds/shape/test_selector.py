from __future__ import annotations

from io import BytesIO

import pytest

from isthmus.config.decode import Unreadable
from isthmus.config.load import load
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Origin, Ref, Report, Source
from isthmus.kinds.shape.selector import Attachable, Selector, broken_scope, scope, selector, warn_unattached
from isthmus.model.gateway import Gateway
from isthmus.model.mesh import Deployed, Mesh
from isthmus.model.selector import Scope
from isthmus.model.workload import Placement, Workload

REF = Ref("AuthorizationPolicy", "shop", "p")
ORIGIN = Origin(REF, Source("mesh.yaml", 1, 1))


def document(spec: str) -> Node:
    head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"
    return load(["-"], stdin=BytesIO((head + spec).encode())).documents[0].root


def read(written: str) -> tuple[Selector | None, list[str]]:
    report = Report()
    node = document(f"spec:\n  selector: {written}\n").at("spec", "selector")
    try:
        value = selector.read(node, report)
    except Unreadable:
        value = None
    return value, [f"{d.source.line}:{d.source.column} {d.severity.word} {d.code.id} {d.message}" for d in report]


def test_labels_are_read() -> None:
    value, found = read("{matchLabels: {app: orders, version: v1}}")
    assert found == []
    assert value is not None
    assert value.match_labels == {"app": "orders", "version": "v1"}


@pytest.mark.parametrize("written", ["{}", "{matchLabels: {}}"])
def test_a_selector_without_labels_is_warned_about(written: str) -> None:
    value, found = read(written)
    assert value is not None
    assert [text[: text.index("a selector")] for text in found] == ["5:13 warning ISM2201 "]


@pytest.mark.parametrize(
    ("written", "where"),
    [
        ('{matchLabels: {app: "ord*"}}', '5:33 error ISM1106 "app: ord*"'),
        ('{matchLabels: {"a*": x}}', '5:34 error ISM1106 "a*: x"'),
        ('{matchLabels: {"": x}}', "5:27 error ISM1106 a label needs a name"),
        ("{matchLabels: {app: 1}}", "5:33 error ISM1102"),
        ("{matchLabels: {app: " + "a" * 64 + "}}", "5:33 error ISM1106 the value of a label has at most 63"),
        ("{matchExpressions: []}", '5:14 error ISM1101 no field "matchExpressions"'),
        ("orders", "5:13 error ISM1102"),
    ],
)
def test_what_is_no_selector(written: str, where: str) -> None:
    value, found = read(written)
    assert value is None
    assert len(found) == 1
    assert found[0].startswith(where)


def test_scope() -> None:
    chosen = read("{matchLabels: {b: '2', a: '1'}}")[0]
    assert scope("shop", chosen, "istio-system") == Scope("shop", (("a", "1"), ("b", "2")))
    assert scope("shop", None, "istio-system") == Scope("shop")
    assert scope("istio-system", chosen, "istio-system") == Scope(None, (("a", "1"), ("b", "2")))
    assert scope("istio-system", None, "istio-system") == Scope(None)


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        ("spec: {selector: {matchLabels: {app: orders}}, action: DENNY}", (("app", "orders"),)),
        ("spec: {selector: {matchLabels: {app: 7}}}", ()),
        ("spec: {selector: {matchLabel: {app: orders}}}", ()),
        ("spec: {selectr: {matchLabels: {app: orders}}}", ()),
        ("spec: {selector: }", ()),
        ("spec: nonsense", ()),
        ("spek: {}", ()),
    ],
)
def test_a_broken_document_is_never_narrower_than_it_was_meant(spec: str, labels: tuple[tuple[str, str], ...]) -> None:
    root = document(spec)
    assert broken_scope(root, "shop", "istio-system") == Scope("shop", labels)
    assert broken_scope(root, "istio-system", "istio-system") == Scope(None, labels)


MESH = Mesh(
    workloads=(
        Workload("orders", "shop", {"app": "orders"}, "default", "127.0.0.1", (), Placement.LOCAL, ORIGIN),
        Workload("orders-2", "shop", {"app": "orders"}, "default", "127.0.0.1", (), Placement.LOCAL, ORIGIN),
    ),
    deployments=(Deployed("web", "front", {"app": "web", "version": "v1"}, "default", ORIGIN),),
    gateways=(Gateway("edge", "edge", (("istio", "edge"),), (), ORIGIN),),
)


@pytest.mark.parametrize(
    ("wanted", "attached"),
    [
        (Scope("shop", (("app", "orders"),)), True),
        (Scope("shop", (("app", "order"),)), False),
        (Scope("front", (("version", "v1"),)), True),
        (Scope("front", (("app", "orders"),)), False),
        (Scope("edge", (("istio", "edge"),)), True),
        (Scope(None, (("app", "web"), ("version", "v1"))), True),
        (Scope(None, (("app", "web"), ("version", "v2"))), False),
        (Scope("nowhere"), False),
        (Scope("shop"), True),
        (Scope(None), True),
    ],
)
def test_what_attaches(wanted: Scope, attached: bool) -> None:
    assert Attachable.of(MESH).holds(wanted) is attached


def test_nothing_but_the_whole_mesh_attaches_to_an_empty_mesh() -> None:
    empty = Attachable.of(Mesh())
    assert empty.holds(Scope(None))
    assert not empty.holds(Scope(None, (("app", "x"),)))
    assert not empty.holds(Scope("shop"))


def test_replicas_count_once() -> None:
    assert list(Attachable.of(MESH).within(Scope("shop"))) == [("shop", frozenset({("app", "orders")}))]


def test_the_warning_stands_at_the_labels() -> None:
    root = document("spec:\n  selector:\n    matchLabels:\n      app: order\n")
    report = Report()
    chosen = selector.read(root.at("spec", "selector"), report)
    resource = Resource(REF, root.source, {}, {}, None, root)
    warn_unattached(resource, scope("shop", chosen, "istio-system"), chosen, Attachable.of(MESH), report)
    warn_unattached(resource, Scope("empty"), None, Attachable.of(MESH), report)
    assert [f"{d.source.line}:{d.source.column} {d.severity.word} {d.code.id} {d.message}" for d in report] == [
        '1:1 warning IST0127 No matching workloads for this resource in namespace "empty"',
        "7:7 warning IST0127 No matching workloads for this resource with the following labels: app=order "
        'in namespace "shop"',
    ]
