from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from isthmus.errors import StateUnusable
from isthmus.identity import rotation
from isthmus.identity.authority import MAX_TTL
from isthmus.identity.retired import RETIRED, forget_below, retire, retired_signers
from isthmus.identity.store import load_or_create, renew_intermediate
from isthmus.state import StateDir

from .making import DOMAIN, HOUR, NOW


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.at(tmp_path / "state").open()


def test_a_signer_that_was_replaced_is_kept_until_what_it_signed_has_ended(state: StateDir) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    assert retired_signers(state, NOW) == ()
    renew_intermediate(state, first, NOW)
    second = load_or_create(state, DOMAIN, NOW)
    renew_intermediate(state, second, NOW + HOUR)
    kept = retired_signers(state, NOW + HOUR)
    assert [one.certificate for one in kept] == [first.chain[0], second.chain[0]]
    assert (state.within(RETIRED).stat().st_mode & 0o777) == 0o600
    assert [one.until for one in retired_signers(state, NOW + MAX_TTL)] == [NOW + HOUR + MAX_TTL]
    assert retired_signers(state, NOW + MAX_TTL + HOUR) == ()


def test_one_that_signed_on_after_it_was_retired_stays_longer(state: StateDir) -> None:
    authority = load_or_create(state, DOMAIN, NOW)
    for now in (NOW, NOW + HOUR, NOW):
        retire(state, authority.chain[0], authority.signing_key, now)
    assert [one.until for one in retired_signers(state, NOW)] == [NOW + HOUR + MAX_TTL]


@pytest.mark.parametrize("name", [rotation.INTERMEDIATE, rotation.INTERMEDIATE_KEY])
@pytest.mark.parametrize("broken", ["no PEM", "another's"])
def test_what_is_broken_is_replaced_and_not_kept(state: StateDir, tmp_path: Path, name: str, broken: str) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    other = StateDir.at(tmp_path / "other").open()
    load_or_create(other, DOMAIN, NOW)
    state.write_private(name, b"x" if broken == "no PEM" else other.read(name) or b"")
    renew_intermediate(state, first, NOW)
    assert load_or_create(state, DOMAIN, NOW).root == first.root
    assert retired_signers(state, NOW) == ()


def test_with_its_root_it_is_forgotten(state: StateDir) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    rotation.prepare(state, DOMAIN, NOW)
    rotation.activate(state, DOMAIN, first.root, NOW)
    assert [one.certificate for one in retired_signers(state, NOW)] == [first.chain[0]]
    forget_below(state, (load_or_create(state, DOMAIN, NOW).root,), NOW)
    assert len(retired_signers(state, NOW)) == 1, "of another root"
    rotation.revoke_old(state, NOW, force=True)
    assert retired_signers(state, NOW) == ()
    assert b"PRIVATE" not in (state.read(RETIRED) or b"")


@pytest.mark.parametrize("data", [b"{", b"[1]", b'[{"certificate": "", "key": "", "until": "2030-01-01T00:00:00Z"}]'])
def test_a_file_that_is_none_of_ours(state: StateDir, data: bytes) -> None:
    load_or_create(state, DOMAIN, NOW - timedelta(days=1))
    state.write_private(RETIRED, data)
    with pytest.raises(StateUnusable):
        retired_signers(state, NOW)
