"""The agent, its SDS and a real Envoy, against a control plane of these tests."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from isthmus.envoy_api import any_of, unpack
from isthmus.envoy_api.packages import discovery_v3, tls_v3
from isthmus.errors import NotEnrolled
from isthmus.proxy.agent import EXIT_NOT_ENROLLED, Agent, end_orphans, node_file
from isthmus.proxy.child import group_lives, start_child
from isthmus.proxy.envoy import EnvoyProgram
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import Plan, PlannedCredential, to_json
from isthmus.proxy.sds import SERVICE
from isthmus.proxy.sds_stream import SECRET_TYPE
from isthmus.xds.bootstrap import BootstrapSettings
from isthmus.xds.secret import SVID
from tests.real.up import contents, free_port

from .making import (
    CONTROL_PLANE,
    ORDERS,
    USERS,
    ControlPlane,
    agent_argv,
    folders,
    https_listener,
    on_wire,
    plan_of,
    until,
    uri_of,
)


class Supervised:
    """An agent in this process, and what its supervisor would tell it."""

    def __init__(self, places: Folders) -> None:
        self.lines = asyncio.StreamReader()
        self.running = asyncio.create_task(Agent(places).run(self.lines))

    def tell(self, **message: Any) -> None:
        self.lines.feed_data(json.dumps(message).encode() + b"\n")

    def plan(self, plan: Plan) -> None:
        self.tell(plan=to_json(plan))

    async def end(self) -> None:
        self.lines.feed_eof()
        await asyncio.wait_for(self.running, 60)

    async def kill(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


def envoy_of(places: Folders, plan: Plan, proxy_id: str = ORDERS.id) -> EnvoyProgram:
    settings = BootstrapSettings(
        proxy_id=proxy_id,
        name=proxy_id.rpartition("~")[2],
        namespace="shop",
        admin_socket=str(places.admin_socket(proxy_id)),
        sds_socket=str(places.sds_socket(proxy_id)),
        ads=plan.ads,
        control_plane_id=CONTROL_PLANE,
    )
    return EnvoyProgram(settings, places, 1, drain=timedelta(seconds=1))


@asynccontextmanager
async def enrolled(places: Folders, control_plane: ControlPlane, plan: Plan) -> AsyncIterator[Supervised]:
    agent = Supervised(places)
    agent.tell(enrol=control_plane.token())
    agent.plan(plan)
    try:
        yield agent
    finally:
        await agent.kill()


async def fetch_whole(places: Folders, proxy_id: str, name: str, within: float = 5) -> Any:
    """The secret that a client of the proxy's SDS socket gets."""
    async with grpc.aio.insecure_channel(f"unix:{places.sds_socket(proxy_id)}") as channel:
        stream = channel.stream_stream(
            f"/{SERVICE}/StreamSecrets",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=discovery_v3.DiscoveryResponse.FromString,
        )()
        await stream.write(discovery_v3.DiscoveryRequest(type_url=SECRET_TYPE, resource_names=[name]))
        response = await asyncio.wait_for(stream.read(), within)
        stream.cancel()
        return unpack(response.resources[0])


@pytest.mark.real
async def test_envoy_gets_its_certificate_rotates_it_and_outlives_control_plane_and_agent(tmp_path: Path) -> None:
    with folders(tmp_path) as places:
        port, ads_port = free_port(), free_port()
        control_plane = ControlPlane(places, ads_port, {ORDERS.id: port})
        await control_plane.start()
        plan = plan_of(places, ads_port, ORDERS, ttl=10)
        agent = Supervised(places)
        agent.tell(enrol=control_plane.token())
        agent.plan(plan)
        program = envoy_of(places, plan)
        child = await program.start()
        watching = asyncio.create_task(asyncio.sleep(60))
        try:
            first = await until(lambda: on_wire(port))
            assert uri_of(first) == [ORDERS.identity]
            assert first.not_valid_after_utc - first.not_valid_before_utc < timedelta(seconds=75)
            watching = asyncio.create_task(connect_all_the_time(port))
            await until(program.admin.ready)
            assert ORDERS.identity in str(await program.admin.certificates())
            await check_no_key_outside(places, program)

            # The agent dies: nobody notices. The next one needs no token, and serves a new certificate.
            await agent.kill()
            assert await on_wire(port) == first
            agent = Supervised(places)
            agent.plan(plan)
            second = await until(lambda: other_than(port, first))
            assert uri_of(second) == [ORDERS.identity]

            # The control plane dies: what is there stays; when it is back, the certificate is renewed.
            await control_plane.stop()
            await asyncio.sleep(0.2)
            assert await on_wire(port) == second
            control_plane = ControlPlane(places, ads_port, {ORDERS.id: port})
            await control_plane.start()
            third = await until(lambda: other_than(port, second))
            assert third.not_valid_after_utc > second.not_valid_after_utc
            connected = await program.admin.stats(r"^control_plane\.connected_state$")
            assert connected == {"control_plane.connected_state": 1}
            assert not watching.done(), watching.exception()
        finally:
            watching.cancel()
            await program.stop(child)
            await agent.end()
            await control_plane.stop()
        assert not places.sds_socket(ORDERS.id).exists()
        assert not places.admin_socket(ORDERS.id).exists()


async def connect_all_the_time(port: int) -> None:
    """New TLS connections, one after the other; raises when one fails."""
    while True:
        await on_wire(port)


async def other_than(port: int, old: x509.Certificate) -> x509.Certificate | None:
    shown = await on_wire(port)
    return None if shown == old else shown


async def check_no_key_outside(places: Folders, program: EnvoyProgram) -> None:
    """Neither a PEM key nor the bytes of the proxy's own: not in a file but those allowed, not in an admin answer."""
    own = await fetch_whole(places, ORDERS.id, "default")
    pem: bytes = own.tls_certificate.private_key.inline_bytes
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    scalar = key.private_numbers().private_value.to_bytes(32, "big")
    forms = (pem.splitlines()[1], scalar, scalar.hex().encode(), base64.b64encode(pem)[100:140])
    allowed = {places.state / node_file("local"), *(places.state / "ca").rglob("*.key")}
    found = dict(every_file(places))
    found[Path("config_dump")] = (await program.admin.config_dump()).SerializeToString()
    assert any(path.suffix == ".json" for path in found)
    for path, content in found.items():
        assert not any(form in content for form in forms), path
        assert path in allowed or b"PRIVATE KEY" not in content, path


def every_file(places: Folders) -> Iterator[tuple[Path, bytes]]:
    return chain(contents(places.state), contents(places.runtime))


async def test_a_token_works_once_and_the_agent_says_so(tmp_path: Path) -> None:
    with folders(tmp_path) as places:
        async with ControlPlane(places, free_port(), {}) as control_plane:
            token = control_plane.token()
            plan = plan_of(places, 1)
            first = Supervised(places)
            first.tell(enrol=token)
            first.plan(plan)
            await until((places.state / node_file("local")).exists)
            await first.end()

            second = await start_child(agent_argv(places), stdin=-1, stdout=-1, stderr=asyncio.subprocess.STDOUT)
            assert second.stdin is not None
            assert second.stdout is not None
            second.stdin.write(f"{json.dumps({'enrol': token})}\n{json.dumps({'plan': to_json(plan)})}\n".encode())
            assert await asyncio.wait_for(second.wait(), 60) == EXIT_NOT_ENROLLED
            said = (await second.stdout.read()).decode()
            assert "unknown, used or expired" in said
            assert token not in said
            assert "Traceback" not in said


async def test_without_token_or_certificate_it_asks_for_one(tmp_path: Path) -> None:
    with folders(tmp_path) as places:
        agent = Supervised(places)
        agent.plan(plan_of(places, 1, ORDERS))
        with pytest.raises(NotEnrolled, match="needs a join token"):
            await asyncio.wait_for(agent.running, 60)
        assert not places.sds_socket(ORDERS.id).exists()


async def test_a_control_plane_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    with folders(tmp_path) as places:
        port = free_port()
        control_plane = ControlPlane(places, port, {})
        agent = Supervised(places)
        agent.tell(enrol=control_plane.token())
        agent.plan(plan_of(places, port, ORDERS))
        await asyncio.sleep(0.5)
        await control_plane.start()
        secret = await until(lambda: fetch_whole(places, ORDERS.id, "ROOTCA"))
        assert secret.validation_context.trusted_ca.inline_bytes == (places.state / "ca/root.pem").read_bytes()
        await agent.end()
        await control_plane.stop()


async def test_credentials_of_a_gateway(tmp_path: Path) -> None:
    with folders(tmp_path) as places:
        port = free_port()
        async with ControlPlane(places, port, {}) as control_plane:
            theirs = tls_v3.Secret(name="credential:shop/theirs")
            theirs.tls_certificate.certificate_chain.inline_string = "chain"
            control_plane.secrets[theirs.name] = any_of(theirs)
            development = PlannedCredential("credential:shop/dev", "1", ("web.example.com",))
            proxy = replace(ORDERS, credentials=(development, PlannedCredential(theirs.name, "1")))
            async with enrolled(places, control_plane, plan_of(places, port, proxy)) as agent:
                dev = await until(lambda: fetch_whole(places, ORDERS.id, development.name))
                leaf = x509.load_pem_x509_certificate(dev.tls_certificate.certificate_chain.inline_bytes)
                names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                assert names.get_values_for_type(x509.DNSName) == ["web.example.com"]
                assert await fetch_whole(places, ORDERS.id, theirs.name) == theirs

                # A new version is fetched anew; what left the plan is served no more.
                theirs.tls_certificate.certificate_chain.inline_string = "new chain"
                control_plane.secrets[theirs.name] = any_of(theirs)
                proxy = replace(proxy, credentials=(PlannedCredential(theirs.name, "2"),))
                agent.plan(plan_of(places, port, proxy, version=2))
                await until(lambda: len(control_plane.fetched) == 2)
                assert await until(lambda: fetch_equal(places, theirs.name, theirs))
                with pytest.raises(TimeoutError):
                    await fetch_whole(places, ORDERS.id, development.name, within=0.3)


@pytest.mark.real
async def test_a_credential_that_does_not_come_closes_its_own_listener_alone(tmp_path: Path) -> None:
    with folders(tmp_path) as places:
        port, missing_port, ads_port = free_port(), free_port(), free_port()
        missing = PlannedCredential("credential:shop/missing", "1")
        plan = plan_of(places, ads_port, replace(ORDERS, credentials=(missing,)))
        program = envoy_of(places, plan)
        async with (
            ControlPlane(places, ads_port, {ORDERS.id: port}) as control_plane,
            enrolled(places, control_plane, plan) as agent,
        ):
            control_plane.publish(
                ORDERS.id, https_listener("https", port, SVID), https_listener("other", missing_port, missing.name)
            )
            child = await program.start()
            try:
                await until(lambda: on_wire(port))
                # For initial_fetch_timeout the port does not even accept; then whoever connects is closed.
                await until(lambda: program.admin.stats(r"downstream_context_secrets_not_ready"))
                for _ in range(3):
                    with pytest.raises(OSError):
                        await on_wire(missing_port)
                # It comes after all: nothing else needs to change.
                agent.plan(replace(plan, version=2, proxies=(replace(ORDERS, credentials=(development(missing),)),)))
                leaf = await until(lambda: on_wire(missing_port))
                assert uri_of(leaf) == []
                await on_wire(port)
            finally:
                await program.stop(child)


def development(credential: PlannedCredential) -> PlannedCredential:
    return replace(credential, version="2", development_dns=("web.example.com",))


async def fetch_equal(places: Folders, name: str, wanted: Any) -> bool:
    return bool(await fetch_whole(places, ORDERS.id, name) == wanted)


async def test_an_identity_that_is_not_this_nodes_is_not_served(tmp_path: Path) -> None:
    with folders(tmp_path) as places:
        port = free_port()
        async with ControlPlane(places, port, {}) as control_plane:
            stranger = replace(USERS, identity="spiffe://cluster.local/ns/other/sa/users")
            async with enrolled(places, control_plane, plan_of(places, port, ORDERS, stranger)):
                await until(lambda: fetch_whole(places, ORDERS.id, "default"))
                with pytest.raises(TimeoutError):
                    await fetch_whole(places, USERS.id, "default", within=0.5)


async def test_sockets_are_for_the_owner_alone_and_go_with_their_proxy(tmp_path: Path) -> None:
    with folders(tmp_path) as places:
        port = free_port()
        async with (
            ControlPlane(places, port, {}) as control_plane,
            enrolled(places, control_plane, plan_of(places, port, ORDERS, USERS)) as agent,
        ):
            sockets = [places.sds_socket(proxy.id) for proxy in (ORDERS, USERS)]
            await until(lambda: all(one.exists() for one in sockets))
            assert {one.stat().st_mode & 0o777 for one in sockets} == {0o600}
            agent.plan(plan_of(places, port, USERS, version=2))
            await until(lambda: not sockets[0].exists())
            assert sockets[1].exists()
            await agent.end()
            assert not sockets[1].exists()


async def test_orphans_are_ended_even_those_that_ignore_the_signal() -> None:
    scripts = ("sleep 60", "trap '' TERM; echo; while :; do sleep 0.05; done")
    children = [await start_child(("sh", "-c", script), stdout=asyncio.subprocess.PIPE) for script in scripts]
    assert children[1].stdout is not None
    await children[1].stdout.readline()
    waiting = [asyncio.create_task(child.wait()) for child in children]
    await end_orphans(tuple(child.pid for child in children))
    await asyncio.wait_for(asyncio.gather(*waiting), 60)
    await until(lambda: not any(group_lives(child.pid) for child in children))
