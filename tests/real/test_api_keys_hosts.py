"""API keys on another machine, the store being a file of the control plane's: asked for by the node's certificate."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import grpc
import grpc.aio
import pytest

from isthmus.consumer.key import ApiKey
from isthmus.identity.authority import control_plane_dns_name
from isthmus.model.key_lookup import FIND, method_path
from isthmus.model.world import Address
from isthmus.proxy.membership import left
from isthmus.state import StateDir
from tests.real.hosts import Host, lan
from tests.real.plane_and_edge import PORT, PlaneAndEdge
from tests.real.up import eventually

pytestmark = pytest.mark.real

REVOKED_SECONDS = 1.0
"""What is promised."""
POLICIES = """\
apiVersion: isthmus.dev/v1alpha1
kind: ClientAuthentication
metadata: {name: keys, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, name: edge}]
  methods: [{apiKey: {headers: [x-api-key]}}]
---
apiVersion: isthmus.dev/v1alpha1
kind: Consumer
metadata: {name: mobile, namespace: shop}
"""
UNKNOWN = (401, "api-key-unknown")
UNAVAILABLE = (503, "policy-service-unavailable")
ALLOWED = (200, None)


class Mesh(PlaneAndEdge):
    """The keys are where the control plane is."""

    def __init__(self, plane: Host, edge: Host) -> None:
        super().__init__(plane, edge, POLICIES)

    def key(self) -> str:
        ran = self._keys("key", "create", "shop/mobile")
        return str(json.loads(ran)["key"])

    def revoke(self, key: str) -> None:
        self._keys("key", "revoke", ApiKey.parse(key).id)

    def _keys(self, *arguments: str) -> str:
        ran = self.plane.command("consumer", *arguments, "--state", "state", "-o", "json")
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def ask(self, key: str) -> tuple[int, str | None]:
        """Status, and the reason of a refusal, as the machine's access log has it."""
        mark = f"/{time.monotonic_ns()}"
        status = self.status(key, mark)
        return status, None if status == 200 else self._reason(mark)

    def status(self, key: str, path: str = "/") -> int:
        return self.asked(path, x_api_key=key)

    def _reason(self, path: str) -> str | None:
        def logged() -> list[dict[str, str]]:
            lines = (self.edge.folder / "state" / "log" / "gateway~shop~edge.access.log").read_text().splitlines()
            return [entry for entry in map(json.loads, filter(None, lines)) if entry.get("path") == path]

        return eventually(logged, 60)[0]["reason"]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with lan(tmp_path_factory.mktemp("keys-hosts")) as net:
        made = Mesh(net.host("plane"), net.host("edge"))
        made.start_plane()
        made.start_edge()
        yield made


def test_a_key_is_good_where_its_store_is_not(mesh: Mesh) -> None:
    first, second = mesh.key(), mesh.key()
    eventually(lambda: mesh.ask(first) == ALLOWED, 60)
    assert mesh.ask(ApiKey.make().text) == UNKNOWN
    assert mesh.ask(ApiKey(ApiKey.parse(second).id, ApiKey.make().secret).text) == UNKNOWN
    assert mesh.ask(second) == ALLOWED
    mesh.revoke(first)
    revoked = begun = time.monotonic()
    while mesh.status(first) == 200:
        assert begun - revoked < REVOKED_SECONDS, "asked a second later, and let in"
        time.sleep(0.02)
        begun = time.monotonic()
    assert mesh.ask(first) == (401, "api-key-revoked")
    assert mesh.ask(second) == ALLOWED
    # Nothing of the store is on that machine, and no secret of the node's is where keys are checked.
    state = mesh.edge.folder / "state"
    assert not (state / "credentials" / "keys.sqlite").exists()
    assert (state / "run" / "keys.sock").stat().st_mode & 0o777 == 0o600


def test_while_the_control_plane_is_away(mesh: Mesh) -> None:
    known, other, late = mesh.key(), mesh.key(), mesh.key()
    assert mesh.ask(known) == ALLOWED
    mesh.serve.stop()
    eventually(lambda: mesh.ask(other) == UNAVAILABLE, 60)
    assert mesh.ask(known) == ALLOWED
    assert mesh.ask(ApiKey.make().text) == UNAVAILABLE
    mesh.revoke(known)
    mesh.start_plane()
    eventually(lambda: mesh.ask(known) == (401, "api-key-revoked"), 60)
    eventually(lambda: mesh.ask(late) == ALLOWED, 60)


def test_who_was_put_out_gets_no_key(mesh: Mesh) -> None:
    known = mesh.key()
    assert mesh.ask(known) == ALLOWED
    state = StateDir.at(mesh.edge.folder / "state")
    membership = left(state)
    assert membership is not None
    own = membership.certificate(state)

    async def asked() -> bytes | grpc.StatusCode:
        """By the node's certificate, as somebody would who has the machine."""
        at = Address(mesh.plane.address, PORT)
        credentials = grpc.ssl_channel_credentials(own.roots, own.key_pem, own.chain)
        name = control_plane_dns_name(membership.control_plane_id)
        options = (("grpc.ssl_target_name_override", name),)
        async with grpc.aio.secure_channel(str(at), credentials, options=options) as channel:
            try:
                answer: bytes = await channel.unary_unary(method_path(FIND))(
                    ApiKey.parse(known).id.encode(), timeout=20
                )
            except grpc.aio.AioRpcError as failed:
                return failed.code()
            return answer

    told = asyncio.run(asked())
    assert isinstance(told, bytes)
    assert json.loads(told)["consumer"] == "shop/mobile"
    asyncio.run(mesh.api.evict("edge-1"))
    assert asyncio.run(asked()) is grpc.StatusCode.UNAUTHENTICATED
    assert mesh.proxy.process.wait(60) != 0
    assert "was evicted" in mesh.proxy.output
