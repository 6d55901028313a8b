from __future__ import annotations

from isthmus.control.asked import Asked, no_secret
from isthmus.control.decisions import DECIDERS
from isthmus.control.rego import PROCESSES, policy_settings, processes
from isthmus.model.decision import DecisionService
from isthmus.model.mesh import Mesh
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
