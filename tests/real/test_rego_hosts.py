"""A policy bundle on another machine: fetched there by the node's SVID, and decided by without a control plane too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from hashlib import sha256

import httpx
import pytest

from isthmus.api.client import ApiClient
from isthmus.errors import IsthmusError
from isthmus.model.rego_bundle import bundle_file
from isthmus.state import StateDir
from tests.decide.rego.packing import Signer, pack, users
from tests.real.hosts import Host, Program, lan
from tests.real.up import eventually

pytestmark = pytest.mark.real

PORT = 15012
SIGNER = Signer()
MESH = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
    - port: {number: 8080, name: http, protocol: HTTP}
      hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
    - name: all
      directResponse: {status: 200, body: {string: let in}}
---
apiVersion: isthmus.dev/v1alpha1
kind: RegoPolicy
metadata: {name: authz, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, name: edge}]
  bundle:
    file: authz.tar.gz
    verification:
      keys:
      - id: default
        algorithm: RS256
        publicKey: |
KEY
"""


class Mesh:
    """A control plane and a gateway, each on a machine of its own. The gateway's has no way to any bundle's source."""

    def __init__(self, plane: Host, edge: Host) -> None:
        self.plane, self.edge = plane, edge
        key = "".join(f"          {line}\n" for line in SIGNER.pem.decode().splitlines())
        (plane.folder / "mesh.yaml").write_text(MESH.replace("KEY\n", key))
        self.publish("alice")
        self.serve: Program

    def publish(self, name: str) -> str:
        """Its digest."""
        packed = pack(SIGNER.signed(users(name)))
        new = self.plane.folder / "new"
        new.write_bytes(packed)
        new.replace(self.plane.folder / "authz.tar.gz")
        return sha256(packed).hexdigest()

    def start_plane(self) -> None:
        options = ("--listen", f"{self.plane.address}:{PORT}", "--state", "state")
        self.serve = self.plane.isthmus("serve", "serve", "mesh.yaml", *options)
        eventually(self._answers, 60)

    def _answers(self) -> bool:
        try:
            return asyncio.run(self._api.nodes()) is not None
        except IsthmusError:
            return False

    @property
    def _api(self) -> ApiClient:
        return ApiClient(StateDir.at(self.plane.folder / "state").api_socket)

    def start_edge(self) -> Program:
        token = str(asyncio.run(self._api.invite("edge-1", "gateway:shop/edge", 600))["token"])
        options = ("--control-plane", self.plane.address, "--gateway", "shop/edge", "--state", "state")
        env = {"ISTHMUS_JOIN_TOKEN": token}
        started = self.edge.isthmus("proxy", "proxy", "gateway", "--ready-file", "ready.json", *options, env=env)
        started.wait_for(self.edge.folder / "ready.json", 90)
        return started

    def status(self, user: str) -> int:
        headers = {"x-user": user}
        return httpx.get(f"http://{self.edge.address}:8080/", headers=headers, timeout=20, trust_env=False).status_code


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with lan(tmp_path_factory.mktemp("rego-hosts")) as net:
        yield Mesh(net.host("plane"), net.host("edge"))


def test_a_bundle_goes_to_the_machine_that_decides(mesh: Mesh) -> None:
    mesh.start_plane()
    mesh.start_edge()
    eventually(lambda: mesh.status("alice") == 200, 60)
    assert mesh.status("bob") == 403
    digest = mesh.publish("bob")
    eventually(lambda: mesh.status("bob") == 200, 60)
    eventually(lambda: all(mesh.status("alice") == 403 for _ in range(8)), 60)
    there = mesh.edge.folder / "state" / bundle_file(digest)
    assert there.stat().st_mode & 0o777 == 0o600
    # Not signed: nothing of it reaches the machine.
    (mesh.plane.folder / "authz.tar.gz").write_bytes(pack(users("mallory")))
    eventually(lambda: "ISM7063" in mesh.serve.output, 60)
    assert (mesh.status("mallory"), mesh.status("bob")) == (403, 200)
    # The control plane goes: decisions do not notice.
    mesh.serve.stop()
    assert (mesh.status("mallory"), mesh.status("alice"), mesh.status("bob")) == (403, 403, 200)
