from __future__ import annotations

import pytest

from isthmus.model.attachment import RoutePlace
from isthmus.xds.closed_tcp import closed_at, closed_by_policy
from isthmus.xds.context import Context

from .making import compiled, context_of, gateway, networking

NAMED = "targetRefs: [{kind: Gateway, name: edge, sectionName: http}]"
DB = RoutePlace("shop/edge", "http", "shop/db")
SPECS = {
    "AccessPolicy": "rules: [{methods: [GET]}]",
    "ClientAuthentication": "methods: [{apiKey: {}}]",
    "RegoPolicy": 'rego: "package envoy.authz\\ndefault allow := false"',
}


def edge(kind: str, where: str, more: str = "") -> Context:
    head = f"apiVersion: isthmus.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: it, namespace: shop}}\nspec:\n"
    table = networking(
        "VirtualService", "db", "{hosts: ['*'], gateways: [edge], tcp: [{route: [{destination: {host: db}}]}]}"
    )
    return context_of(compiled(gateway(), table, f"{head}  {where}\n  {SPECS[kind]}\n  {more}").mesh, "edge")


@pytest.mark.parametrize("kind", SPECS)
def test_what_speaks_of_requests_closes_the_connections_of_its_place(kind: str) -> None:
    selected, named = edge(kind, "selector: {}"), edge(kind, NAMED)
    assert (closed_by_policy(selected), closed_at(selected, DB)) == (True, False)
    assert (closed_by_policy(named), closed_at(named, DB)) == (False, True)
    assert not closed_at(named, RoutePlace("shop/edge", "other", "shop/db"))


@pytest.mark.parametrize(
    ("kind", "more"), [("ClientAuthentication", "required: false"), ("RegoPolicy", "dryRun: true")]
)
def test_what_refuses_nobody_closes_nothing(kind: str, more: str) -> None:
    assert not closed_by_policy(edge(kind, "selector: {}", more))
