"""Which decision services a node runs, and what they are told."""

from __future__ import annotations

import json

from isthmus.control.asked import no_secret
from isthmus.control.decisions import DECIDERS, planned_services, wanted_services
from isthmus.model.decision import DecisionService
from isthmus.model.mesh import Mesh
from isthmus.model.world import World


def test_without_a_policy_there_are_none() -> None:
    assert wanted_services(Mesh()) == {}
    assert planned_services(Mesh(), World(), "local", no_secret) == ()
    assert no_secret("shop/any", ("key",)) is None


def test_each_service_has_one_entry() -> None:
    assert [decider.service for decider in DECIDERS] == list(DecisionService)


def test_modules_are_there_and_settings_are_json() -> None:
    for decider in DECIDERS:
        assert decider.module.startswith("isthmus.")
        assert json.dumps(decider.processes(Mesh())) == "0"
