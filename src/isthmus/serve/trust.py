"""What every node is told to trust: our own authority's roots, and what proves our JWT-SVIDs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING

from isthmus.control.control_plane import ControlPlane
from isthmus.control.jwt_authority import JwtAuthority
from isthmus.identity.authority import Authority
from isthmus.proxy.plan import TrustBundle
from isthmus.serve.authority import AuthorityKeeper
from isthmus.serve.revoked_list import Lists

if TYPE_CHECKING:
    from isthmus.proxy.workload_api.source import SvidSource


class Trust:
    """``spire``: another authority of our trust domain, whose SVIDs are taken beside ours; None: there is none."""

    def __init__(self, plane: ControlPlane, jwt: JwtAuthority, spire: SvidSource | None) -> None:
        self._plane = plane
        self._jwt = jwt
        self._spire = spire
        self._lists: tuple[str, ...] = ()

    def take_lists(self, lists: Lists) -> None:
        """What of single certificates was revoked. :meth:`tell` tells the nodes."""
        self._lists = lists.in_force
        self._plane.inputs.revoked_certificates = lists.serials

    def tell(self, authority: Authority) -> None:
        """Tell every node what our authority is trusted by."""
        bundle = authority.bundle
        # What signs now stays first.
        roots = dict.fromkeys((*bundle.roots, *self.roots_beside()))
        # Another authority of the trust domain tells us of no list, and without one its SVIDs would be refused.
        lists = () if self.roots_beside() else self._lists
        self._plane.inputs.trust = (TrustBundle(bundle.trust_domain, tuple(roots), lists=lists),)
        self._plane.trust_changed()

    def own_roots(self) -> tuple[str, ...]:
        return tuple(root for bundle in self._plane.inputs.trust for root in bundle.roots)

    def roots_beside(self) -> tuple[str, ...]:
        """Of another authority of our trust domain, if its SVIDs are taken."""
        if self._spire is None:
            return ()
        return self._spire.roots.value.get(self._plane.mesh.settings.trust_domain, ())

    def jwt_keys(self) -> tuple[str, ...]:
        return self._plane.inputs.jwt_keys

    async def follow(self, keeper: AuthorityKeeper) -> None:
        """Tell every node whatever of it is new."""
        await asyncio.gather(self._follow_authority(keeper), self._follow_spire(keeper), self._follow_jwt_keys())

    async def _follow_authority(self, keeper: AuthorityKeeper) -> None:
        async def follow_revoked() -> None:
            async for revoked in keeper.revoked:
                if revoked != self._plane.inputs.revoked:
                    self._plane.inputs.revoked = revoked
                    self._plane.changed()

        async def follow_trust() -> None:
            async for found in keeper.latest:
                self.tell(found)

        async def follow_lists() -> None:
            async for found in keeper.lists.latest:
                known = self._plane.inputs.revoked_certificates
                self.take_lists(found)
                self.tell(keeper.latest.value)
                if self._plane.inputs.revoked_certificates != known:
                    self._plane.changed()

        await asyncio.gather(follow_trust(), follow_revoked(), follow_lists())

    async def _follow_spire(self, keeper: AuthorityKeeper) -> None:
        if self._spire is None:
            return

        async def follow(roots: AsyncIterable[object]) -> None:
            async for _ in roots:
                self.tell(keeper.latest.value)

        await asyncio.gather(self._spire.run(), follow(self._spire.roots))

    async def _follow_jwt_keys(self) -> None:
        async for keys in self._jwt.latest:
            self._plane.inputs.jwt_keys = keys.public
            self._plane.trust_changed()
