from __future__ import annotations

import json
from datetime import datetime, timedelta

from isthmus.control.handshakes import Handshakes, place_of, settings_of
from isthmus.handshake.failure import failure_of
from isthmus.model.world import PortKey
from tests.control.making import documents, plane_of
from tests.handshake.making import BEGAN, entry

EDGE = "gateway~shop~edge"
GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: edge}
  servers:
    - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example.com], tls: {mode: ISTIO_MUTUAL}}
"""
POLICY = """\
apiVersion: isthmus.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: edge, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, name: edge}]
  connection: {failedHandshakes: {threshold: 3, baseEjection: 2s}}
"""
PLACE = PortKey(EDGE, "gateway", 443)


class Clock:
    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> datetime:
        return self.now


class Files(dict[str, bytes]):
    def read(self, name: str) -> bytes | None:
        return self.get(name)

    def write_private(self, name: str, data: bytes) -> None:
        self[name] = data


class Mesh:
    def __init__(self, *texts: str) -> None:
        self.clock = Clock()
        self.lines: list[bytes] = []
        self.plane = plane_of(*texts)
        self.files = Files()
        self.handshakes = Handshakes(self.plane, self.lines.append, self.clock, self.files)

    def fail(self, times: int, text: str = "HTTP_REQUEST", listener: str = "gateway_443") -> None:
        for _ in range(times):
            self.handshakes.heard(failure_of(entry(text=text), EDGE, listener))

    @property
    def shut_out(self) -> dict[PortKey, tuple[str, ...]]:
        self.handshakes.settle()
        return dict(self.plane.inputs.shut_out)


def test_a_line_for_each_failure_of_any_listener() -> None:
    mesh = Mesh(GATEWAY)
    mesh.fail(1)
    mesh.fail(1, listener="inbound_8080")
    assert [json.loads(line)["listener"] for line in mesh.lines] == ["gateway_443", "inbound_8080"]
    mesh.fail(100)
    assert len(mesh.lines) == 20


def test_who_keeps_failing_is_shut_out_for_a_while() -> None:
    mesh = Mesh(GATEWAY, POLICY)
    mesh.fail(2)
    assert mesh.shut_out == {}
    mesh.fail(1)
    assert mesh.shut_out == {PLACE: ("192.0.2.7/32",)}
    mesh.plane.rebuild()
    assert mesh.plane.world.shut_out == {PLACE: ("192.0.2.7/32",)}
    mesh.clock.now += timedelta(seconds=3)
    assert mesh.shut_out == {}


def test_what_is_not_held_against_a_client() -> None:
    mesh = Mesh(GATEWAY, POLICY)
    mesh.fail(50, text="")
    mesh.fail(50, text="TLS error: Secret is not supplied by SDS")
    assert mesh.shut_out == {}


def test_without_a_policy_and_at_sidecars_nobody_is() -> None:
    mesh = Mesh(GATEWAY)
    mesh.fail(50)
    assert mesh.shut_out == {}
    mesh = Mesh(GATEWAY, POLICY)
    mesh.fail(50, listener="inbound_443")
    assert mesh.shut_out == {}


def test_a_policy_that_goes_lets_everybody_in() -> None:
    mesh = Mesh(GATEWAY, POLICY)
    mesh.fail(3)
    assert mesh.shut_out
    mesh.plane.inputs.documents = documents(GATEWAY)
    mesh.plane.rebuild()
    assert mesh.shut_out == {}
    mesh.fail(3)
    assert mesh.shut_out == {}


def test_who_is_exempt_by_now_is_let_in_at_once_and_after_a_start() -> None:
    exempting = POLICY.replace("baseEjection: 2s", "baseEjection: 2s, exempt: [192.0.2.0/28]")
    mesh = Mesh(GATEWAY, POLICY)
    mesh.fail(3)
    assert mesh.shut_out
    assert again(mesh, GATEWAY, exempting).plane.inputs.shut_out == {}
    mesh.plane.inputs.documents = documents(GATEWAY, exempting)
    mesh.plane.rebuild()
    assert mesh.shut_out == {}


def test_places() -> None:
    plane = plane_of(GATEWAY, POLICY)
    found = settings_of(plane.mesh, PLACE)
    assert found is not None
    assert found.threshold == 3
    assert settings_of(plane.mesh, PortKey(EDGE, "gateway", 80)) is None
    assert settings_of(plane.mesh, PortKey("gateway~shop~none", "gateway", 443)) is None
    assert place_of(failure_of(entry(), EDGE, "gateway_443")) == PLACE
    assert place_of(failure_of(entry(), EDGE, "capture")) is None


def again(before: Mesh, *texts: str, later: timedelta = timedelta()) -> Mesh:
    """The control plane is started anew."""
    after = Mesh(*texts)
    after.clock.now = before.clock.now + later
    after.files.update(before.files)
    after.handshakes = Handshakes(after.plane, after.lines.append, after.clock, after.files)
    after.handshakes.take_up()
    return after


def test_another_control_plane_goes_on_with_who_is_shut_out() -> None:
    mesh = Mesh(GATEWAY, POLICY)
    mesh.fail(3)
    assert mesh.shut_out == {PLACE: ("192.0.2.7/32",)}
    after = again(mesh, GATEWAY, POLICY, later=timedelta(seconds=1))
    assert after.plane.inputs.shut_out == {PLACE: ("192.0.2.7/32",)}
    after.clock.now += timedelta(seconds=2)
    assert after.shut_out == {}, "no longer than it was to be"
    after.fail(3)
    after.clock.now += timedelta(seconds=3)
    assert after.shut_out == {PLACE: ("192.0.2.7/32",)}, "the second time twice as long"


def test_what_is_left_is_forgotten_where_it_counts_no_more() -> None:
    mesh = Mesh(GATEWAY, POLICY)
    mesh.fail(3)
    assert mesh.shut_out
    assert again(mesh, GATEWAY).plane.inputs.shut_out == {}, "nobody is shut out there now"
    assert again(mesh, GATEWAY, POLICY, later=timedelta(days=1)).shut_out == {}
    mesh.files["shut-out.json"] = b'[{"proxy": 1}]'
    assert again(mesh, GATEWAY, POLICY).shut_out == {}
