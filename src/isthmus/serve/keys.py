"""API keys for machines that ask the control plane, from the store of its state."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from isthmus.control.control_plane import ControlPlane
from isthmus.control.key_service import KeyService
from isthmus.control.roster import Roster
from isthmus.decide.client.store import StoreReader
from isthmus.state import StateDir

if TYPE_CHECKING:
    from isthmus.consumer.store import CredentialStore


def key_service(plane: ControlPlane, roster: Roster, state: StateDir, clock: Callable[[], datetime]) -> KeyService:
    """``state``: open. The store is opened when somebody asks first."""

    def open_store() -> CredentialStore:
        # Its library is a tenth of a second of every start, which few have a use for.
        from isthmus.consumer.store import CredentialStore

        return CredentialStore.of(state)

    return KeyService(plane, roster, StoreReader(open_store), clock, time.monotonic)
