from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network

import pytest
from tests.kinds.client_traffic_policy.policy_manifest import GATEWAY, SECRETS
from tests.kinds.traffic_manifest import Compiled, compiled

from isthmus.model.handshake import FailedHandshakes

POLICY = """\
apiVersion: isthmus.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: corp, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, name: edge, sectionName: simple}]
  connection: CONNECTION
"""


def done(connection: str) -> Compiled:
    return compiled(POLICY.replace("CONNECTION", connection), GATEWAY, *SECRETS)


def held(connection: str) -> FailedHandshakes | None:
    found = done(connection)
    assert found.found == []
    (server,) = (one for one in found.mesh.gateways[0].servers if one.port_name == "simple")
    return server.client_traffic.failed_handshakes


def test_the_defaults() -> None:
    assert held("{}") is None, "off unless it is said"
    assert held("{failedHandshakes: {}}") == FailedHandshakes(
        50, timedelta(seconds=10), timedelta(seconds=1), timedelta(minutes=5)
    )


def test_every_field() -> None:
    written = (
        "{failedHandshakes: {threshold: 3, interval: 1m, baseEjection: 2s, maxEjection: 1h,"
        " exempt: [10.0.0.0/8, '2001:db8::1']}}"
    )
    assert held(written) == FailedHandshakes(
        3,
        timedelta(minutes=1),
        timedelta(seconds=2),
        timedelta(hours=1),
        (ip_network("10.0.0.0/8"), ip_network("2001:db8::1/128")),
    )


@pytest.mark.parametrize(
    "written",
    [
        "{threshold: 0}",
        "{threshold: 100001}",
        "{interval: 10ms}",
        "{baseEjection: 0s}",
        "{baseEjection: 1m, maxEjection: 30s}",
        "{exempt: [10.0.0.1/8]}",
        "{exempt: [somewhere]}",
        "{treshold: 5}",
    ],
)
def test_what_cannot_be(written: str) -> None:
    found = done(f"{{failedHandshakes: {written}}}").found
    # Beside what is wrong: a policy that cannot be read lets nobody in.
    assert len(found) == 2
    assert " error " in found[1]


def test_connection_limits_are_not_silently_left_out() -> None:
    assert done("{connectionLimit: {value: 5}}").found[1] == "6:16 error ISM1105"
