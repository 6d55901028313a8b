from __future__ import annotations

import pytest
from tests.kinds.client_traffic_policy.policy_manifest import GATEWAY, SECRETS
from tests.kinds.traffic_manifest import Compiled, compiled

from isthmus.model.client_traffic import Problems

POLICY = """\
apiVersion: isthmus.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: corp, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, name: edge, sectionName: simple}]
  errors: ERRORS
"""


def done(errors: str) -> Compiled:
    return compiled(POLICY.replace("ERRORS", errors), GATEWAY, *SECRETS)


@pytest.mark.parametrize(
    ("errors", "problems"),
    [
        ("{format: PROBLEM_JSON}", Problems()),
        ("{format: PROBLEM_JSON, reason: false}", Problems()),
        ("{format: PROBLEM_JSON, reason: true}", Problems(reason=True)),
    ],
)
def test_what_clients_are_told(errors: str, problems: Problems) -> None:
    found = done(errors)
    assert found.found == []
    told = {server.port_name: server.client_traffic.problems for server in found.mesh.gateways[0].servers}
    assert told.pop("simple") == problems
    assert set(told.values()) == {None}


@pytest.mark.parametrize("errors", ["{}", "{reason: true}", "{format: HTML}", "{format: PROBLEM_JSON, detail: true}"])
def test_what_is_refused(errors: str) -> None:
    broken, told = done(errors).found
    assert "ISM2006" in broken, "its Gateway's servers stay closed"
    assert "error ISM11" in told
