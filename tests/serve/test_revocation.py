"""From a policy to the secret that an agent fetches."""

from __future__ import annotations

import asyncio
from pathlib import Path

from isthmus.control.control_plane import ControlPlane
from isthmus.control.desired import credentials
from isthmus.revocation.server import RevocationService
from isthmus.revocation.store import RevocationStore
from isthmus.serve.revocation import Revocation
from tests.control.revoking import LEAF, LISTED, RESPONDER, ROOT, crl, plane, staple
from tests.revocation.making import FakeFetcher, answer
from tests.revocation.making import crl as signed


def planned(of: ControlPlane) -> dict[str, str]:
    [proxy] = [one for one in of.mesh.proxies if one.name == "edge"]
    return {one.name: one.version for one in credentials(of.mesh, proxy, of.world)}


def following(of: ControlPlane, folder: Path, fetcher: FakeFetcher) -> Revocation:
    return Revocation(of, RevocationService(fetcher, RevocationStore(folder)))


async def test_a_list_and_an_answer_reach_the_plan_and_the_next_start(tmp_path: Path) -> None:
    known = plane(crl(), staple("Must"))
    fetcher = FakeFetcher(**{LISTED: signed(ROOT, 7), RESPONDER: answer(LEAF, ROOT)})
    revocation = following(known, tmp_path, fetcher)
    revocation.take_up()
    before = planned(known)
    [none] = [name for name in before if name.startswith("credential-ca:")]
    assert before[none].endswith("~none")
    assert "credential:shop/shop" not in before, "held back"
    running = asyncio.create_task(revocation.run())
    async with asyncio.timeout(60):
        async for _ in known.turns:
            known.rebuild()
            if known.world.staples and all(one.version != "none" for one in known.world.crls.values()):
                break
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    after = planned(known)
    assert "credential:shop/shop" in after
    [ca] = [name for name in after if name.startswith("credential-ca:")]
    assert ca.startswith("credential-ca:shop/clients~crl:")
    assert ca != none
    again = plane(crl(), staple("Must"))
    following(again, tmp_path, FakeFetcher()).take_up()
    assert planned(again) == after, "before anybody was asked"
