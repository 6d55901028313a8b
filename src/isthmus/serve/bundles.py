"""Between the control plane and the bundles that are fetched for its RegoPolicies."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from isthmus.control.bundle_finding import bundle_findings
from isthmus.control.bundles import SecretValue, active_bundles, bundle_gauges, wishes
from isthmus.control.control_plane import ControlPlane
from isthmus.control.secret_value import secret_value
from isthmus.decide.rego.fetch import AnyBundleFetcher
from isthmus.decide.rego.keeper import BundleService
from isthmus.decide.rego.load import examine
from isthmus.decide.rego.store import BundleStore


class RegoBundles:
    """Has fetched what the manifests ask for, and tells the control plane which bundles decide."""

    def __init__(
        self,
        plane: ControlPlane,
        store: BundleStore,
        clock: Callable[[], datetime],
        counts: Counter[tuple[str, ...]],
    ) -> None:
        self._plane = plane
        self._service = BundleService(AnyBundleFetcher(), store, examine, clock, random.random, counts)

    def take_up(self) -> None:
        """What an earlier run left is in force before anybody asks: a start neither opens nor closes anything."""
        self._arrange()
        if self._tell():
            self._plane.rebuild()

    def gauges(self) -> Mapping[str, Mapping[tuple[str, ...], float]]:
        return bundle_gauges(self._service.status.value)

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(self._service.run(), self._follow_manifests(), self._follow_bundles())

    async def _follow_manifests(self) -> None:
        async for _ in self._plane.turns:
            self._arrange()
            if self._tell():
                self._plane.changed()

    async def _follow_bundles(self) -> None:
        async for _ in self._service.status:
            if self._tell():
                self._plane.changed()

    def _arrange(self) -> None:
        self._service.watch(wishes(self._plane.mesh, self._secret))

    @property
    def _secret(self) -> SecretValue:
        return partial(secret_value, self._plane.compiled.value)

    def _tell(self) -> bool:
        """Say whether anything is new."""
        inputs, statuses = self._plane.inputs, self._service.status.value
        told = active_bundles(statuses), bundle_findings(self._plane.mesh, statuses, self._secret)
        if told == (inputs.rego_bundles, inputs.rego_findings):
            return False
        inputs.rego_bundles, inputs.rego_findings = told
        return True
