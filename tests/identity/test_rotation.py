from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from isthmus.errors import Refused, StateUnusable
from isthmus.identity import rotation
from isthmus.identity.authority import MAX_TTL, create_root, private_key, signature_hash
from isthmus.identity.rotation import Step
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.store import load_or_create, renew_intermediate
from isthmus.state import StateDir

from .making import DOMAIN, HOUR, NOW, new_csr
from .test_authority import openssl_verify

ORDERS = SpiffeId.workload(DOMAIN, "shop", "orders")
DAY = timedelta(days=1)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.at(tmp_path / "state").open()


class TestDue:
    @pytest.mark.parametrize(
        ("left", "prepared", "wanted"),
        [
            (31 * DAY, False, None),
            (29 * DAY, False, Step.PREPARE),
            (29 * DAY, True, None),
            (8 * DAY, True, None),
            (6 * DAY, True, Step.ACTIVATE),
            (6 * DAY, False, Step.PREPARE),
        ],
    )
    def test_a_long_life(self, left: timedelta, prepared: bool, wanted: Step | None) -> None:
        root, _ = create_root(DOMAIN, NOW)
        assert rotation.due(root, prepared=prepared, now=root.not_valid_after_utc - left) is wanted

    def test_ours_are_known_from_a_users(self) -> None:
        root, key = create_root(DOMAIN, NOW)
        assert rotation.is_ours(root)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Corp root")])
        theirs = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())  # type: ignore[arg-type]
            .serial_number(1)
            .not_valid_before(NOW)
            .not_valid_after(NOW + DAY)
            .sign(key, signature_hash(key))
        )
        assert not rotation.is_ours(theirs)


def test_prepared_activated_and_the_old_one_dropped(state: StateDir, tmp_path: Path) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    prepared = rotation.prepare(state, DOMAIN, NOW)
    both = load_or_create(state, DOMAIN, NOW)
    assert (both.root, both.chain, both.others) == (first.root, first.chain, (prepared,))
    assert (state.read("ca/bundle.pem") or b"").decode() == "".join(both.bundle.roots)
    assert prepared.subject != first.root.subject, "the key's hash is in the name: no two of one name"

    rotation.write_signed_until(state, first.root, NOW + HOUR, NOW)
    rotation.activate(state, DOMAIN, first.root, NOW)
    second = load_or_create(state, DOMAIN, NOW)
    assert (second.root, second.others) == (prepared, (first.root,))
    assert second.bundle.roots[0] != both.bundle.roots[0]
    svid = second.issue(new_csr(), ORDERS, HOUR, NOW)
    assert openssl_verify(tmp_path, svid.chain, second.bundle.roots[0], "sslclient") == "leaf.pem: OK"

    (old,) = rotation.old_roots(state)
    assert old.until == NOW + HOUR + HOUR, "with some to spare"
    assert rotation.drop_old(state, NOW + HOUR) == ()
    with pytest.raises(Refused, match="may be in use until 2026"):
        rotation.revoke_old(state, NOW + HOUR)
    assert rotation.drop_old(state, NOW + 2 * HOUR) == (first.root,)
    assert load_or_create(state, DOMAIN, NOW + 2 * HOUR).others == ()


def test_an_old_root_can_be_revoked_by_force(state: StateDir) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    rotation.prepare(state, DOMAIN, NOW)
    rotation.activate(state, DOMAIN, first.root, NOW)
    # Nothing was written down of what it signed: as long as it can be.
    assert rotation.old_roots(state)[0].until == NOW + MAX_TTL
    assert rotation.revoke_old(state, NOW, force=True) == (first.root,)
    with pytest.raises(Refused, match="there is no old root"):
        rotation.revoke_old(state, NOW)


def test_steps_out_of_order(state: StateDir) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    with pytest.raises(Refused, match="no next root is prepared"):
        rotation.activate(state, DOMAIN, first.root, NOW)
    rotation.prepare(state, DOMAIN, NOW)
    with pytest.raises(Refused, match="prepared already"):
        rotation.prepare(state, DOMAIN, NOW)
    (state.path / "ca/next-root.key").unlink()
    with pytest.raises(Refused, match=r"next-root\.key: missing"):
        rotation.activate(state, DOMAIN, first.root, NOW)
    assert load_or_create(state, DOMAIN, NOW).root == first.root


@pytest.mark.parametrize("left", ["root and key", "root"])
def test_an_activation_that_a_crash_cut_short_is_finished(state: StateDir, left: str) -> None:
    """The intermediate is the new root's already, its own files are not in their place yet."""
    first = load_or_create(state, DOMAIN, NOW)
    prepared = rotation.prepare(state, DOMAIN, NOW)
    old = {name: (state.path / "ca" / name).read_bytes() for name in ("root.pem", "root.key")}
    rotation.activate(state, DOMAIN, first.root, NOW)
    ca = state.path / "ca"
    (ca / "root.pem").rename(ca / "next-root.pem")
    (ca / "root.pem").write_bytes(old["root.pem"])
    if left == "root and key":
        (ca / "root.key").rename(ca / "next-root.key")
        (ca / "root.key").write_bytes(old["root.key"])
    found = load_or_create(state, DOMAIN, NOW)
    assert (found.root, found.others) == (prepared, (first.root,))
    assert not list(ca.glob("next*"))


def test_an_intermediate_is_renewed_on_demand(state: StateDir) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    renew_intermediate(state, first, NOW)
    second = load_or_create(state, DOMAIN, NOW)
    assert second.root == first.root
    assert second.chain != first.chain
    (state.path / "ca/root.key").unlink()
    with pytest.raises(Refused, match=r"root\.key: missing"):
        renew_intermediate(state, second, NOW)


def test_the_last_end_is_written_seldom_and_ahead(state: StateDir) -> None:
    root = load_or_create(state, DOMAIN, NOW).root
    ends = NOW + HOUR

    def kept() -> datetime:
        return rotation.signed_until(state, root, NOW)

    rotation.write_signed_until(state, root, ends, NOW)
    written = kept()
    assert written > ends
    rotation.write_signed_until(state, root, ends + timedelta(minutes=30), NOW)
    assert kept() == written
    rotation.write_signed_until(state, root, NOW + 3 * HOUR, NOW)
    assert kept() >= NOW + 3 * HOUR


def test_a_list_of_old_roots_that_is_none_is_not_passed_over(state: StateDir) -> None:
    load_or_create(state, DOMAIN, NOW)
    for data in (b"[1]", b"{", b'[{"root": "x", "until": "2026-01-01T00:00:00+00:00"}]'):
        state.write_private("ca/old-roots.json", data)
        with pytest.raises(StateUnusable, match=r"old-roots\.json"):
            load_or_create(state, DOMAIN, NOW)


def test_no_intermediate_is_made_with_another_roots_key(state: StateDir) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    _, key = create_root(DOMAIN, NOW)
    with pytest.raises(Refused, match=r"root\.key: not the key of the root that signs"):
        rotation.renew(state, first.root, private_key(key).pem, DOMAIN, NOW)
    assert load_or_create(state, DOMAIN, NOW) == first
