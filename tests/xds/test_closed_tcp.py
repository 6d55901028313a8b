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


def policy(kind: str, where: str, more: str = "", name: str = "it") -> str:
    head = f"apiVersion: isthmus.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n"
    return f"{head}  {where}\n  {SPECS[kind]}\n  {more}\n"


def edge(kind: str, where: str, more: str = "", *others: str) -> Context:
    table = networking(
        "VirtualService", "db", "{hosts: ['*'], gateways: [edge], tcp: [{route: [{destination: {host: db}}]}]}"
    )
    return context_of(compiled(gateway(), table, policy(kind, where, more), *others).mesh, "edge")


@pytest.mark.parametrize("kind", SPECS)
def test_what_speaks_of_requests_closes_the_connections_of_its_place(kind: str) -> None:
    selected, named = edge(kind, "selector: {}"), edge(kind, NAMED)
    assert (closed_by_policy(selected), closed_at(selected, DB)) == (True, True)
    assert (closed_by_policy(named), closed_at(named, DB)) == (False, True)
    assert not closed_at(named, RoutePlace("shop/edge", "other", "shop/db"))


@pytest.mark.parametrize(
    ("kind", "more"), [("ClientAuthentication", "required: false"), ("RegoPolicy", "dryRun: true")]
)
def test_what_refuses_nobody_closes_nothing(kind: str, more: str) -> None:
    assert not closed_by_policy(edge(kind, "selector: {}", more))


def test_the_most_specific_policy_of_a_kind_decides_as_it_does_for_requests() -> None:
    kind = "ClientAuthentication"
    at_server = policy(kind, NAMED, "required: false", "at-server")
    for where in ("selector: {}", NAMED.replace(", sectionName: http", "")):
        assert closed_at(edge(kind, where), DB)
        assert not closed_at(edge(kind, where, "", at_server), DB)
        assert closed_at(edge(kind, where, "", at_server), RoutePlace("shop/edge", "other", "shop/db"))
        both = edge(kind, where, "", at_server, policy("RegoPolicy", "selector: {}", name="rego"))
        assert closed_at(both, DB), "each kind by itself"
