"""Between the control plane and what is fetched for it about who is revoked."""

from __future__ import annotations

import asyncio
from functools import partial

from isthmus.control.control_plane import ControlPlane
from isthmus.control.revocation import Demands, demands, held_back, learnt_crls, learnt_staples
from isthmus.control.revocation_finding import revocation_findings
from isthmus.control.revocation_gauge import Gauges, revocation_gauges
from isthmus.control.secret_value import secret_value
from isthmus.model.revocation import Revocations
from isthmus.revocation.server import RevocationService


class Revocation:
    """Has fetched what the manifests ask for, and tells the control plane what came."""

    def __init__(self, plane: ControlPlane, service: RevocationService) -> None:
        self._plane = plane
        self._service = service
        self._wanted = Demands()

    def take_up(self) -> None:
        """What an earlier run left is in force before any proxy asks: a start shuts nobody out."""
        self._arrange()
        if self._tell():
            self._plane.rebuild()

    def gauges(self) -> Gauges:
        return revocation_gauges(self._wanted, self._service.status.value)

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(self._service.run(), self._follow_manifests(), self._follow_fetches())

    async def _follow_manifests(self) -> None:
        async for _ in self._plane.turns:
            self._arrange()
            if self._tell():
                self._plane.changed()

    async def _follow_fetches(self) -> None:
        async for _ in self._service.status:
            if self._tell():
                self._plane.changed()

    def _arrange(self) -> None:
        self._wanted = demands(self._plane.mesh, partial(secret_value, self._plane.compiled.value))
        self._service.watch(self._wanted.sources)

    def _tell(self) -> bool:
        """Say whether anything is new."""
        inputs, statuses = self._plane.inputs, self._service.status.value
        staples = learnt_staples(self._wanted, statuses)
        learnt = Revocations(learnt_crls(self._wanted, statuses), staples, held_back(self._wanted, staples))
        findings = revocation_findings(self._wanted, statuses)
        if (learnt, findings) == (inputs.revocation, inputs.learnt):
            return False
        inputs.revocation, inputs.learnt = learnt, findings
        return True
