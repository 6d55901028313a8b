from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.errors import Refused, StateUnusable
from isthmus.identity.revoked import (
    REVOKED,
    REVOKED_CERTIFICATES,
    Reason,
    RevokedCertificate,
    parse_serial,
    read_revoked,
    read_revoked_certificates,
    restore,
    revoke,
    write_revoked_certificates,
)
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


def test_single_certificates_are_remembered(tmp_path: Path) -> None:
    state = StateDir.at(tmp_path / "state").open()
    assert read_revoked_certificates(state) == ()
    one = RevokedCertificate(0xABC, NOW, Reason.KEY_COMPROMISE, NOW + HOUR)
    write_revoked_certificates(state, [one])
    assert read_revoked_certificates(state) == (one,)
    state.write_private(REVOKED_CERTIFICATES, b'[{"serial": "xyz"}]')
    with pytest.raises(StateUnusable, match="not a list of revoked certificates"):
        read_revoked_certificates(state)


def test_a_serial_number_as_people_write_it() -> None:
    assert parse_serial("0A:bc") == parse_serial("abc") == parse_serial("0xABC") == 0xABC
    for wrong in ("", "0", "xyz", "-1", "a" * 41):
        with pytest.raises(Refused, match="is no serial number"):
            parse_serial(wrong)
