from __future__ import annotations

from dataclasses import replace

from isthmus.analyze.limit_store import CHECK
from isthmus.diag import Report
from tests.analyze.limit import limits
from tests.analyze.manifest import GATEWAY, ORDERS, mesh_of

SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: counter, namespace: shop}
stringData: {url: "redis://counter.example"}
"""
EVERY = "[{name: g, scope: GLOBAL, requests: 1, per: 1m}, {name: l, requests: 1, per: 1m}]"


SECOND = ORDERS.split("---\n")[1].replace("orders-1", "orders-2")


def told(text: str, *nodes: str) -> list[str]:
    """``nodes``: of the gateway, and of two sidecars in ``shop``."""
    mesh = mesh_of(text, GATEWAY, ORDERS, SECOND, SECRET)
    placed = (replace(proxy, node=node) for proxy, node in zip(mesh.proxies, nodes, strict=True))
    report = Report()
    assert CHECK.run is not None
    CHECK.run(replace(mesh, proxies=tuple(placed)), report)
    return [f"{one.source.line} {one.severity.word} {one.code.id}: {one.message}" for one in report]


def test_on_several_machines() -> None:
    assert told(limits(EVERY), "one", "one", "two") == [
        '5 warning ISM5113: "g" is counted on each of 2 machines (one, two): together they let through 2 times as much'
    ]
    assert told(limits(EVERY), "one", "one", "one") == []


def test_machines_without_what_it_is_about() -> None:
    assert told(limits(EVERY), "one", "two", "two") == [], "the gateway is not in its namespace"


def test_with_a_store() -> None:
    assert told(limits(EVERY, store="{redis: {secretName: counter}}"), "one", "one", "two") == []
