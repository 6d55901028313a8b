"""What a policy of ours is attached to, as manifests say it: selector, or targetRefs."""

from __future__ import annotations

import pytest
from tests.kinds.traffic_manifest import Compiled, compiled

from isthmus.kinds.shape.attach import BOTH_ATTACHMENTS, NO_TARGET, NOT_AT_SIDECARS
from isthmus.kinds.shape.selector import NO_MATCHING_WORKLOADS
from isthmus.model.attachment import Attachment, Target, TargetKind
from isthmus.model.selector import Scope

SHOP = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders, namespace: shop}
spec:
  hosts: [orders.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: shop}
spec:
  hosts: [orders.example.com]
  gateways: [edge]
  http:
  - {name: read, match: [{method: {exact: GET}}], route: [{destination: {host: orders.example.com}}]}
  - route: [{destination: {host: orders.example.com}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: inside, namespace: shop}
spec:
  hosts: [orders.example.com]
  http: [{route: [{destination: {host: orders.example.com}}]}]
"""


def done(attach: str, namespace: str = "shop") -> Compiled:
    """An AccessPolicy whose ``attach`` begins at 5:3."""
    policy = (
        f"apiVersion: isthmus.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: one, namespace: {namespace}}}\n"
        f"spec:\n  {attach}\n  rules: [{{methods: [GET]}}]\n"
    )
    return compiled(policy, SHOP)


def attached(attach: str, namespace: str = "shop") -> Attachment:
    (policy,) = done(attach, namespace).mesh.policies.access
    return policy.attachment


def of_policy(found: Compiled) -> list[str]:
    """``line:column code`` of what is said of the policy, by whoever reads its attachment."""
    codes = {BOTH_ATTACHMENTS.id, NOT_AT_SIDECARS.id, NO_TARGET.id, NO_MATCHING_WORKLOADS.id}
    return [
        f"{one.source.line}:{one.source.column} {one.code.id}"
        for one in found.diagnostics
        if one.code.id in codes and one.ref is not None and one.ref.kind == "AccessPolicy"
    ]


def target(kind: TargetKind, name: str, section: str | None = None) -> Target:
    return Target(kind, "shop", name, section)


@pytest.mark.parametrize(
    ("attach", "expected"),
    [
        ("selector: {matchLabels: {app: edge}}", Attachment(Scope("shop", (("app", "edge"),)))),
        ("{}", Attachment(Scope("shop"))),
        ("targetRefs: [{kind: Gateway, name: edge}]", Attachment(None, (target(TargetKind.GATEWAY, "edge"),))),
        (
            "targetRefs: [{group: networking.istio.io, kind: Gateway, name: edge, sectionName: http}]",
            Attachment(None, (target(TargetKind.GATEWAY, "edge", "http"),)),
        ),
        (
            "targetRefs: [{kind: VirtualService, name: orders}, "
            "{kind: VirtualService, name: orders, sectionName: read}]",
            Attachment(
                None,
                (
                    target(TargetKind.VIRTUAL_SERVICE, "orders"),
                    target(TargetKind.VIRTUAL_SERVICE, "orders", "read"),
                ),
            ),
        ),
    ],
)
def test_what_is_written_is_what_is_meant(attach: str, expected: Attachment) -> None:
    attach = attach if attach != "{}" else "selector:"
    assert attached(attach) == expected
    assert of_policy(done(attach)) == []


def test_a_policy_of_the_root_namespace_is_about_the_mesh() -> None:
    assert attached("selector:", "istio-system") == Attachment(Scope(None))


@pytest.mark.parametrize(
    ("attach", "found"),
    [
        ("targetRefs: [{kind: Gateway, name: egde}]", ["5:38 ISM2292"]),
        ("targetRefs: [{kind: Gateway, name: edge, sectionName: https}]", ["5:57 ISM2292"]),
        ("targetRefs: [{kind: VirtualService, name: carts}]", ["5:45 ISM2292"]),
        ("targetRefs: [{kind: VirtualService, name: orders, sectionName: raed}]", ["5:66 ISM2292"]),
        ("selector: {matchLabels: {app: nothing}}", ["5:27 IST0127"]),
        ("targetRefs: [{kind: VirtualService, name: inside}]", ["5:16 ISM2291"]),
    ],
)
def test_what_is_not_there_is_said_where_it_stands(attach: str, found: list[str]) -> None:
    assert of_policy(done(attach)) == found


def test_what_is_not_there_is_not_attached_to() -> None:
    assert attached("targetRefs: [{kind: Gateway, name: egde}]") == Attachment(None, ())


def test_labels_and_names_are_not_both_meant() -> None:
    both = "selector: {matchLabels: {app: edge}}\n  targetRefs: [{kind: Gateway, name: edge}]"
    assert of_policy(done(both)) == [f"1:1 {BOTH_ATTACHMENTS.id}"]


def test_the_wrong_route_is_told_from_those_that_there_are() -> None:
    said = done("targetRefs: [{kind: VirtualService, name: orders, sectionName: raed}]").messages
    assert 'no http route of VirtualService/shop/orders named "raed" (did you mean "read"?)' in said
