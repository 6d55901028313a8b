from __future__ import annotations

from dataclasses import replace

from isthmus.control.asked import Asked, no_secret
from isthmus.control.decisions import DECIDERS
from isthmus.control.rego import PROCESSES, node_bundles, policy_settings, processes
from isthmus.model.attachment import Attachment
from isthmus.model.decision import DecisionService
from isthmus.model.identity import Identity
from isthmus.model.mesh import Mesh, Policies
from isthmus.model.proxy import Proxy, Role
from isthmus.model.rego_bundle import ActiveBundle
from isthmus.model.selector import Scope
from isthmus.model.world import World
from tests.control.test_rego_finding import MESH, POLICY


def test_there_are_processes_where_there_are_policies() -> None:
    assert (processes(Mesh()), processes(MESH)) == (0, PROCESSES)
    assert DecisionService.REGO in [decider.service for decider in DECIDERS]


def test_a_text_is_told_whole() -> None:
    assert policy_settings(POLICY, Asked(MESH, World(), "local", no_secret)) == {
        "path": "envoy/authz/allow",
        "dry_run": False,
        "modules": [{"file": "shop/authz.rego", "text": "package p"}],
        "data": {},
    }


def test_a_node_knows_the_bundles_that_it_decides_by_and_no_others() -> None:
    bundled = replace(POLICY, modules=())
    policies = (
        replace(bundled, name="orders", attachment=Attachment(Scope("shop", (("app", "orders"),)))),
        replace(bundled, name="bank", attachment=Attachment(Scope("bank"))),
        replace(bundled, name="edge", attachment=Attachment()),
        replace(bundled, name="new", attachment=Attachment(Scope("shop"))),
    )
    proxies = (_proxy(Role.SIDECAR, "shop", "a"), _proxy(Role.GATEWAY, "edge", "b"))
    mesh = Mesh(policies=Policies(rego=policies), proxies=proxies)
    digests = {"shop/orders": "aa", "shop/bank": "bb", "shop/edge": "cc"}
    world = World(rego_bundles={name: ActiveBundle(digest, "") for name, digest in digests.items()})

    def known(node: str) -> tuple[str, ...]:
        return node_bundles(Asked(mesh, world, node, no_secret))

    assert known("a") == ("aa",)
    # Where gateways are, any policy may hold.
    assert known("b") == known("local") == ("aa", "bb", "cc")
    assert known("nobody") == ()


def _proxy(role: Role, namespace: str, node: str) -> Proxy:
    identity = Identity("cluster.local", namespace, "default")
    return Proxy(role, "orders", namespace, {"app": "orders"}, identity, POLICY.origin, node)
