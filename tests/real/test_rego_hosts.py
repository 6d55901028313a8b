"""A policy bundle on another machine: fetched there by the node's SVID, and decided by without a control plane too."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import pytest

from isthmus.model.rego_bundle import bundle_file
from tests.decide.rego.packing import Signer, pack, users
from tests.real.hosts import Host, lan
from tests.real.plane_and_edge import PlaneAndEdge
from tests.real.up import eventually

pytestmark = pytest.mark.real

SIGNER = Signer()
POLICIES = """\
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


class Mesh(PlaneAndEdge):
    """The gateway's machine has no way to any bundle's source."""

    def __init__(self, plane: Host, edge: Host) -> None:
        key = "".join(f"          {line}\n" for line in SIGNER.pem.decode().splitlines())
        super().__init__(plane, edge, POLICIES.replace("KEY\n", key))
        self.publish("alice")

    def publish(self, name: str) -> str:
        """Its digest."""
        packed = pack(SIGNER.signed(users(name)))
        new = self.plane.folder / "new"
        new.write_bytes(packed)
        new.replace(self.plane.folder / "authz.tar.gz")
        return sha256(packed).hexdigest()

    def status(self, user: str) -> int:
        return self.asked(x_user=user)


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
