"""Between the control plane and the OpenID providers whose endpoints logins need."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

from isthmus.control.control_plane import ControlPlane
from isthmus.control.last_good import PrivateFiles
from isthmus.control.oidc import wanted_issuers
from isthmus.control.oidc_finding import provider_findings, secret_findings
from isthmus.errors import JwksUnavailable
from isthmus.model.oidc import Provider, ProviderEndpoints, provider_from_json, provider_to_json

_FILE = "oidc/providers.json"
_REFRESH = timedelta(minutes=20)
_FIRST_RETRY = timedelta(milliseconds=250)
_LONGEST_RETRY = timedelta(seconds=60)
_FAILURES_TOLD = 5
"""In a row, until a finding says so of an issuer that never answered: it may be starting beside us."""
_log = logging.getLogger(__name__)


class Discoverer(Protocol):
    async def discover(self, issuer: str) -> ProviderEndpoints:
        """Raises JwksUnavailable with the reason."""


class Logins:
    """Asks every issuer that a login names, at its own pace, and tells the control plane what came.

    What an issuer said last stays in force, also over a restart, for as long as it says nothing better.
    """

    def __init__(self, plane: ControlPlane, discoverer: Discoverer, state: PrivateFiles) -> None:
        self._plane = plane
        self._discoverer = discoverer
        self._state = state
        self._good: dict[str, ProviderEndpoints] = _read(state.read(_FILE))
        self._errors: dict[str, str] = {}

    def take_up(self) -> None:
        """What an earlier run learnt is in force before any proxy asks."""
        if self._tell():
            self._plane.rebuild()

    async def run(self) -> None:
        """Until cancelled."""
        asking: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            async for _ in self._plane.turns:
                wanted = wanted_issuers(self._plane.mesh)
                for issuer in asking.keys() - wanted:
                    asking.pop(issuer).cancel()
                for issuer in wanted - asking.keys():
                    asking[issuer] = tasks.create_task(self._follow(issuer))
                if self._tell():
                    self._plane.changed()

    async def _follow(self, issuer: str) -> None:
        failures = 0
        while True:
            try:
                found = await self._discoverer.discover(issuer)
            except JwksUnavailable as fault:
                failures += 1
                pause = min(_FIRST_RETRY * 2 ** min(failures, 32), _LONGEST_RETRY) * random.uniform(0.5, 1)  # noqa: S311
                if issuer in self._good or failures >= _FAILURES_TOLD:
                    self._failed(issuer, str(fault))
            else:
                failures, pause = 0, _REFRESH
                self._succeeded(issuer, found)
            await asyncio.sleep(pause.total_seconds())

    def _failed(self, issuer: str, error: str) -> None:
        if self._errors.get(issuer) != error:
            _log.warning("no endpoints of %s: %s", issuer, error)
        self._errors[issuer] = error
        if self._tell():
            self._plane.changed()

    def _succeeded(self, issuer: str, found: ProviderEndpoints) -> None:
        self._errors.pop(issuer, None)
        if self._good.get(issuer) != found:
            self._good[issuer] = found
            kept = {name: provider_to_json(one) for name, one in sorted(self._good.items())}
            self._state.write_private(_FILE, json.dumps(kept).encode())
        if self._tell():
            self._plane.changed()

    def _tell(self) -> bool:
        """Say whether anything is new."""
        mesh, inputs = self._plane.mesh, self._plane.inputs
        providers = self._providers(wanted_issuers(mesh))
        findings = (*provider_findings(mesh, providers), *secret_findings(self._plane.compiled.value))
        if (providers, findings) == (inputs.providers, inputs.learnt_of_logins):
            return False
        inputs.providers, inputs.learnt_of_logins = providers, findings
        return True

    def _providers(self, issuers: frozenset[str]) -> Mapping[str, Provider]:
        known = {issuer: Provider(self._good.get(issuer), self._errors.get(issuer)) for issuer in sorted(issuers)}
        return {issuer: one for issuer, one in known.items() if one != Provider(None)}


def _read(raw: bytes | None) -> dict[str, ProviderEndpoints]:
    """A file that cannot be understood counts as none."""
    try:
        return {name: provider_from_json(one) for name, one in json.loads(raw or b"{}").items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
