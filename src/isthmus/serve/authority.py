"""The certificate authority of a running control plane: loaded, renewed, put back where somebody removed it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from isthmus.errors import IsthmusError, StateUnusable
from isthmus.identity.authority import Authority
from isthmus.identity.store import load_or_create, put_back
from isthmus.keeping import Keeping
from isthmus.latest import Latest
from isthmus.model.settings import Settings
from isthmus.state import StateDir

logger = logging.getLogger(__name__)

_AUTHORITY_CHECK = timedelta(hours=1)
_STATE_CHECK = timedelta(seconds=1)


class AuthorityKeeper:
    """Holds what signs now in :attr:`latest`."""

    def __init__(
        self, state: StateDir, keeping: Keeping, settings: Callable[[], Settings], clock: Callable[[], datetime]
    ) -> None:
        """Raises Refused or StateUnusable: the state's authority is not one for this trust domain."""
        self._state = state
        self._keeping = keeping
        self._settings = settings
        self._clock = clock
        self.latest = Latest(self._load())

    def _load(self) -> Authority:
        settings = self._settings()
        return load_or_create(self._state, settings.trust_domain, self._clock(), settings.root_namespace)

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(self._renew(), self._keep_state())

    async def _renew(self) -> None:
        """The intermediate is renewed long before it ends."""
        while True:
            await asyncio.sleep(_AUTHORITY_CHECK.total_seconds())
            try:
                put_back(self._state, self.latest.value)
                self.latest.set(self._load())
            except IsthmusError as failed:
                logger.error("the certificate authority goes on as it was: %s", failed)

    async def _keep_state(self) -> None:
        """Write what a full disk did not take, and what somebody removed, as soon as it can be written."""
        while True:
            await asyncio.sleep(_STATE_CHECK.total_seconds())
            self._keeping.retry()
            with suppress(StateUnusable):
                if put_back(self._state, self.latest.value):
                    logger.error("%s: the authority was removed; all but its root key is back", self._state.path)
