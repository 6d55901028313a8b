from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.compile import Compiled, Compiler
from isthmus.config.node import Node
from isthmus.control.control_plane import ControlPlane
from isthmus.errors import PortTaken
from isthmus.jwks.source import JwksSource
from isthmus.model.mesh import Mesh
from isthmus.model.world import Address, IssuerKeys, PortKey
from isthmus.proxy.plan import TrustBundle
from isthmus.proxy.ports import PortBook, Published
from isthmus.xds.snapshot import EMPTY
from isthmus.xds.translate import translate
from tests.xds.pool import STATES, loaded

from . import revoking
from .making import NODE, ORDERS, SIDECAR, CountedPorts, NamedCredentials, documents, plane_of

TOKENS = """\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec: {jwtRules: [{issuer: "https://auth.example.com"}]}
"""


def other_mesh(setting: str) -> str:
    return f"""\
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
    {setting}
"""


def test_a_proxy_has_a_snapshot_a_plan_and_a_credential() -> None:
    plane = plane_of(ORDERS)
    assert plane.snapshot(SIDECAR).value != EMPTY
    assert plane.plan.value is not None
    assert [proxy.id for proxy in plane.plan.value.proxies] == [SIDECAR]
    assert plane.world.outbound_credentials == {SIDECAR: f"of {SIDECAR}"}


def test_what_is_gone_has_an_empty_snapshot() -> None:
    plane = plane_of(ORDERS)
    plane.inputs.documents = ()
    plane.rebuild()
    assert plane.snapshot(SIDECAR).value == EMPTY
    assert plane.plan.value is not None
    assert plane.plan.value.proxies == ()


def test_a_plan_that_stays_the_same_keeps_its_version() -> None:
    plane = plane_of(ORDERS)
    first = plane.plan.value
    plane.rebuild()
    assert plane.plan.value is first


def test_a_refused_port_is_replaced() -> None:
    plane = plane_of(ORDERS)
    inbound = PortKey(SIDECAR, "inbound", 9080)
    before = plane.world.addresses[inbound]
    plane.inputs.taken = frozenset({inbound})
    plane.rebuild()
    assert plane.world.addresses[inbound] != before
    assert plane.inputs.taken == frozenset(), "asked for once"


def test_the_keys_that_are_needed_are_asked_for() -> None:
    asked: list[frozenset[JwksSource]] = []
    plane_of(ORDERS, TOKENS, asked=asked)
    (needed,) = asked
    assert [(source.issuer, source.uri) for source in needed] == [("https://auth.example.com", None)]


def test_the_trust_domain_stays_while_running() -> None:
    plane = plane_of(ORDERS)
    mesh, snapshot = plane.mesh, plane.snapshot(SIDECAR).value
    for setting in ("trustDomain: other.example", "rootNamespace: mesh-root"):
        plane.inputs.documents = documents(ORDERS, other_mesh(setting))
        plane.rebuild()
        assert [found.code.id for found in plane.diagnostics if found.severity.word == "error"] == ["ISM2007"]
        assert plane.mesh is mesh
        assert plane.snapshot(SIDECAR).value == snapshot
    plane.inputs.documents = documents(ORDERS)
    plane.rebuild()
    assert not [found for found in plane.diagnostics if found.severity.word == "error"]


@settings(max_examples=40, deadline=None)
@given(st.lists(STATES, min_size=1, max_size=5))
def test_every_proxy_has_what_the_manifests_say_now_whatever_they_said_before(states: list[tuple[int, ...]]) -> None:
    plane = ControlPlane(NODE, CountedPorts(), NamedCredentials(), timedelta(hours=1), lambda sources: None)
    before, seen = Compiled(Mesh(), (), {}), set()
    for state in states:
        now = loaded(state)
        plane.inputs.documents, plane.inputs.unparsed = now.documents, now.broken
        plane.rebuild()
        fresh = Compiler().compile(now.documents, before.good, now.broken)
        assert plane.mesh == fresh.mesh
        assert plane.compiled.value is not None
        before = plane.compiled.value
        wanted = {proxy.id: translate(fresh.mesh, plane.world, proxy) for proxy in fresh.mesh.proxies}
        seen |= wanted.keys()
        assert {proxy: plane.snapshot(proxy).value for proxy in seen} == {
            proxy: wanted.get(proxy, EMPTY) for proxy in seen
        }
        assert plane.plan.value is not None
        assert {proxy.id for proxy in plane.plan.value.proxies} == wanted.keys()


GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: NAME, namespace: shop}
spec: {selector: {app: NAME}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["NAME.example.com"]}]}
"""
EDGE, OTHER = GATEWAY.replace("NAME", "edge"), GATEWAY.replace("NAME", "other")


class Memory:
    """A state directory that keeps nothing."""

    def read(self, name: str) -> bytes | None:
        return None

    def write_private(self, name: str, data: bytes) -> None:
        pass


def published_plane() -> ControlPlane:
    book = PortBook(Memory(), [Published("127.0.0.1", 18080, 80)])
    return ControlPlane(NODE, book, NamedCredentials(), timedelta(hours=1), lambda sources: None)


def test_an_edit_that_makes_two_gateways_claim_a_published_port_changes_nothing() -> None:
    plane = published_plane()
    plane.inputs.documents = documents(EDGE)
    plane.rebuild()
    mesh, snapshot = plane.mesh, plane.snapshot("gateway~shop~edge").value
    plane.inputs.documents = documents(EDGE, OTHER)
    plane.rebuild()
    assert [found.code.id for found in plane.diagnostics if found.severity.word == "error"] == ["ISM2008"]
    assert plane.mesh is mesh
    assert plane.snapshot("gateway~shop~edge").value == snapshot
    plane.inputs.documents = documents(OTHER)
    plane.rebuild()
    assert plane.world.addresses[PortKey("gateway~shop~other", "gateway", 80)].port == 18080


def test_a_first_start_with_two_gateways_for_one_published_port_ends() -> None:
    plane = published_plane()
    plane.inputs.documents = documents(EDGE, OTHER)
    with pytest.raises(PortTaken):
        plane.rebuild()


def test_keys_that_were_learnt_reach_the_proxies() -> None:
    plane = plane_of(ORDERS, TOKENS)
    before = plane.snapshot(SIDECAR).value
    source = JwksSource("https://auth.example.com", None, timedelta(seconds=5))
    plane.inputs.jwks = {source: IssuerKeys('{"keys": []}')}
    plane.rebuild()
    assert plane.world.jwks == {("https://auth.example.com", None): IssuerKeys('{"keys": []}')}
    assert plane.snapshot(SIDECAR).value != before


def test_guests_compile_beside_the_manifests() -> None:
    plane = plane_of()
    plane.inputs.guests = documents(ORDERS)
    plane.rebuild()
    assert plane.mesh.find_proxy(SIDECAR) is not None


async def test_many_changes_are_one_rebuild() -> None:
    plane = plane_of()
    running = asyncio.create_task(plane.run())
    try:
        for text in (ORDERS, ORDERS + "---\n" + TOKENS, ORDERS):
            plane.inputs.documents = documents(text)
            plane.changed()
            await asyncio.sleep(0.002)
        version, compiled = await asyncio.wait_for(plane.compiled.after(plane.compiled.version), 60)
        assert compiled is not None
        assert compiled.mesh.policies.request == (), "the last of them"
        await asyncio.sleep(0.05)
        assert plane.compiled.version == version
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_changes_that_never_end_are_not_waited_for() -> None:
    plane = plane_of()
    running = asyncio.create_task(plane.run())
    try:
        before = plane.compiled.version
        async with asyncio.timeout(60):
            while plane.compiled.version == before:
                plane.inputs.documents = documents(ORDERS)
                plane.changed()
                await asyncio.sleep(0.005)
        assert plane.snapshot(SIDECAR).value != EMPTY
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


class FailingPorts(CountedPorts):
    """Takes the first mesh and no other: a fault of ours, of whatever kind."""

    failing = False

    def settle(self, wanted: Mapping[PortKey, str], taken: frozenset[PortKey]) -> Mapping[PortKey, Address]:
        if self.failing:
            raise ZeroDivisionError("a fault")
        return super().settle(wanted, taken)


async def test_a_fault_of_ours_leaves_what_is_in_force_and_is_told() -> None:
    ports = FailingPorts()
    plane = ControlPlane(NODE, ports, NamedCredentials(), timedelta(hours=1), lambda sources: None)
    plane.inputs.documents = documents(ORDERS)
    plane.rebuild()
    before = plane.snapshot(SIDECAR).value
    running = asyncio.create_task(plane.run())
    try:
        ports.failing = True
        plane.inputs.documents = documents(ORDERS + "---\n" + TOKENS)
        for _ in range(2):
            turn = plane.turns.version
            plane.changed()
            await asyncio.wait_for(plane.turns.after(turn), 60)
        assert [found.code.id for found in plane.diagnostics].count("ISM4001") == 1
        assert plane.snapshot(SIDECAR).value is before
        assert not running.done()
        ports.failing = False
        turn = plane.turns.version
        plane.changed()
        await asyncio.wait_for(plane.turns.after(turn), 60)
        assert "ISM4001" not in [found.code.id for found in plane.diagnostics]
        assert len(plane.mesh.policies.request) == 1
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def test_what_was_edited_away_is_forgotten() -> None:
    """Of a mesh that is changed for a week, only its last state is in memory."""
    policy = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: shop}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/EDIT]}}]}]}
"""
    plane = plane_of(ORDERS, policy)
    living = []
    for edit in range(60):
        plane.inputs.documents = documents(ORDERS, policy.replace("EDIT", str(edit)))
        plane.rebuild()
        if edit in (20, 59):
            gc.collect()
            living.append(sum(type(one) is Node for one in gc.get_objects()))
    assert living[1] <= living[0]


def test_agents_fetch_the_lists_of_a_new_signer_with_the_trust_in_it() -> None:
    """Without waiting for a turn: nothing else changes where the same certificates are revoked as before."""
    plane = revoking.plane()

    def version() -> str:
        plan = plane.plan.value
        assert plan is not None
        [found] = {
            one.version for proxy in plan.proxies for one in proxy.credentials if one.name.startswith("credential-ca:")
        }
        return found

    seen = [version()]
    for lists in (("first",), ("first", "second"), ()):
        plane.inputs.trust = (TrustBundle("cluster.local", ("root",), lists=lists),)
        plane.trust_changed()
        seen.append(version())
    assert len(set(seen)) == 3
    assert seen[0] == seen[-1]
