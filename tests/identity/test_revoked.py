from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.errors import StateUnusable
from isthmus.identity.revoked import REVOKED, read_revoked, restore, revoke
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.state import StateDir

from .making import DOMAIN, HOUR, NOW

ORDERS, USERS = (SpiffeId.workload(DOMAIN, "shop", name) for name in ("orders", "users"))


def test_it_is_remembered_until_it_is_taken_back(tmp_path: Path) -> None:
    state = StateDir.at(tmp_path / "state").open()
    assert read_revoked(state) == ()
    revoke(state, ORDERS, NOW)
    revoke(state, USERS, NOW)
    revoke(state, ORDERS, NOW + HOUR)
    assert [(one.spiffe_id, one.at) for one in read_revoked(state)] == [(ORDERS, NOW), (USERS, NOW)]
    restore(state, ORDERS)
    assert [one.spiffe_id for one in read_revoked(state)] == [USERS]


@pytest.mark.parametrize("data", [b"{", b"[1]", b'[{"spiffe_id": "no", "at": "2026-01-01"}]'])
def test_a_list_that_cannot_be_read_lets_nobody_in_again(tmp_path: Path, data: bytes) -> None:
    state = StateDir.at(tmp_path / "state").open()
    state.write_private(REVOKED, data)
    with pytest.raises(StateUnusable, match=r"revoked\.json"):
        read_revoked(state)
