"""From a policy to the digest that a decision service is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from isthmus.control.control_plane import ControlPlane
from isthmus.decide.rego.store import BundleStore
from isthmus.serve.bundles import RegoBundles
from isthmus.state import StateDir
from tests.control.making import plane_of
from tests.decide.rego.packing import pack, users

POLICY = """\
apiVersion: isthmus.dev/v1alpha1
kind: RegoPolicy
metadata: {{name: authz, namespace: shop}}
spec: {{bundle: {{file: "{file}"}}}}
"""


def following(plane: ControlPlane, folder: Path) -> RegoBundles:
    store = BundleStore(StateDir.at(folder / "state").open())
    return RegoBundles(plane, store, lambda: datetime.now(UTC), Counter())


async def test_a_bundle_reaches_the_plan_and_the_next_start(tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    file.write_bytes(pack(users("alice")))
    plane = plane_of(POLICY.format(file=file))
    bundles = following(plane, tmp_path)
    bundles.take_up()
    assert plane.world.rego_bundles == {}
    running = asyncio.create_task(bundles.run())
    async with asyncio.timeout(100):
        while not plane.world.rego_bundles:
            plane.rebuild()
            await asyncio.sleep(0.02)
        file.write_bytes(b"rubbish")
        while not plane.inputs.rego_findings:
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert plane.world.rego_bundles["shop/authz"].revision == "alice"
    assert "ISM7063" in [finding.code.id for finding in plane.diagnostics]
    file.unlink()
    again = plane_of(POLICY.format(file=file))
    following(again, tmp_path).take_up()
    assert again.world.rego_bundles == plane.world.rego_bundles, "before anybody looked"
    assert bundles.gauges()["isthmus_rego_bundle_active"] == {("shop/authz",): 1.0}
