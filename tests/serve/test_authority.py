"""The authority of a control plane over the years: what it does by itself, and what it is told."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from isthmus.errors import NotEnrolled, Refused, StateUnusable
from isthmus.identity.authority import create_intermediate, create_root, private_key
from isthmus.identity.enrolment import NotAssigned
from isthmus.identity.given import Given
from isthmus.identity.material import pem_of
from isthmus.identity.retired import RETIRED
from isthmus.identity.rotation import BUNDLE, Step
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.keeping import Keeping
from isthmus.model.settings import Settings
from isthmus.serve.authority import AuthorityKeeper
from isthmus.serve.authority_requests import AuthorityRequests
from isthmus.state import StateDir

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORDERS = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/orders")


class Mesh:
    """A keeper, and what it is surrounded by."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.behind: tuple[str, ...] = ()
        self.given: Given | None = None
        self.state = StateDir.at(folder / "state").open()
        self.keeper = self.start()

    def start(self) -> AuthorityKeeper:
        keeping = Keeping(self.state, lambda what: None)
        return AuthorityKeeper(self.state, keeping, Settings, lambda: self.now, lambda: self.given, lambda: self.behind)

    @property
    def requests(self) -> AuthorityRequests:
        return AuthorityRequests(self.keeper, self.state, lambda: self.now)

    @property
    def roles(self) -> list[str]:
        return [root["role"] for root in self.requests.shown()["roots"]]


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path)


def self_signed() -> Given:
    root, key = create_root("cluster.local", NOW)
    return Given("corp", {"ca-cert.pem": pem_of(root), "ca-key.pem": private_key(key).pem})


class TestByItself:
    def test_replaced_signers_that_cannot_be_read_are_said(self, mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
        mesh.state.write_private(RETIRED, b"garbage")
        mesh.start()
        assert "no new list of revoked certificates for signers that were replaced" in caplog.text

    def test_a_root_is_replaced_before_it_ends_and_forgotten_after(self, mesh: Mesh) -> None:
        first = mesh.keeper.latest.value.root
        ends = first.not_valid_after_utc
        mesh.keeper.look()
        assert mesh.roles == ["active"]
        mesh.now = ends - timedelta(days=29)
        mesh.keeper.look()
        assert mesh.roles == ["active", "next"]
        mesh.keeper.note(mesh.now + timedelta(hours=1))
        mesh.now = ends - timedelta(days=6)
        mesh.behind = ("edge-1",)
        with pytest.raises(Refused, match="not every proxy trusts the next root yet: edge-1"):
            mesh.keeper.look()
        assert mesh.keeper.latest.value.root == first
        mesh.behind = ()
        mesh.keeper.look()
        assert mesh.roles == ["active", "old"] or mesh.roles == ["active"]
        assert mesh.keeper.latest.value.root != first
        mesh.now = ends + timedelta(days=1)
        mesh.keeper.look()
        assert mesh.roles == ["active"]

    def test_started_again_in_the_middle_it_goes_on(self, mesh: Mesh) -> None:
        mesh.keeper.rotate(Step.PREPARE)
        before = mesh.keeper.latest.value
        assert mesh.start().latest.value == before
        mesh.keeper.rotate(Step.ACTIVATE)
        assert mesh.start().latest.value == mesh.keeper.latest.value != before

    def test_a_folder_that_was_removed_keeps_what_is_trusted(self, mesh: Mesh) -> None:
        mesh.keeper.rotate(Step.PREPARE)
        mesh.keeper.rotate(Step.ACTIVATE)
        trusted = mesh.keeper.latest.value.bundle
        shutil.rmtree(mesh.state.path / "ca")
        mesh.keeper.look()
        assert mesh.keeper.latest.value.bundle == trusted


class TestGiven:
    def test_another_root_is_trusted_by_all_before_it_signs(self, mesh: Mesh) -> None:
        first = mesh.keeper.latest.value
        given = mesh.given = self_signed()
        mesh.behind = ("local",)
        mesh.keeper.take(given)
        between = mesh.keeper.latest.value
        assert (between.root, len(between.others)) == (first.root, 1)
        mesh.keeper.take(given)
        assert mesh.keeper.latest.value == between
        mesh.behind = ()
        mesh.keeper.take(given)
        after = mesh.keeper.latest.value
        assert (after.root, after.others) == (between.others[0], (first.root,))
        assert mesh.start().latest.value == after, "the old root is remembered"
        with pytest.raises(Refused, match="given by corp: its roots are rotated there"):
            mesh.keeper.rotate(Step.PREPARE)

    def test_what_is_no_authority_changes_nothing(self, mesh: Mesh) -> None:
        before = mesh.keeper.latest.value
        with pytest.raises(Refused, match=r"corp: no ca-key\.pem"):
            mesh.keeper.take(Given("corp", {"ca-cert.pem": b"x"}))
        assert mesh.keeper.latest.value == before

    def test_what_a_full_disk_did_not_take_is_tried_again(self, mesh: Mesh) -> None:
        mesh.given = self_signed()
        mesh.keeper.take(mesh.given)
        bundle = mesh.state.within(BUNDLE)
        bundle.unlink()
        bundle.mkdir()
        with pytest.raises(StateUnusable):
            mesh.keeper.take(mesh.given)
        assert mesh.keeper.given_by is None
        bundle.rmdir()
        mesh.keeper.take(mesh.given)
        assert mesh.keeper.given_by == "corp"

    def test_what_was_given_and_has_ended_does_not_end_the_keeper(self, mesh: Mesh) -> None:
        mesh.given = self_signed()
        for _ in range(2):
            mesh.keeper.take(mesh.given)
        mesh.requests.revoke_certificate("abc", "keyCompromise", take_back=False)
        first, second = mesh.keeper.latest.value, self_signed()
        for _ in range(2):
            mesh.keeper.take(second)
        assert mesh.keeper.latest.value.chain == first.chain, "waits"
        mesh.now = first.root.not_valid_after_utc + timedelta(days=1)
        mesh.keeper.sign_with_coming()
        assert mesh.keeper.latest.value.chain != first.chain


class TestRevoked:
    def test_nothing_is_signed_for_it_from_the_next_moment_and_after_a_start(self, mesh: Mesh) -> None:
        mesh.keeper.check(ORDERS)
        mesh.requests.revoke(ORDERS.uri, take_back=False)
        assert mesh.keeper.revoked.value == {ORDERS.uri}
        for keeper in (mesh.keeper, mesh.start()):
            with pytest.raises(NotAssigned, match="was revoked"):
                keeper.check(ORDERS)
        mesh.requests.revoke(ORDERS.uri, take_back=True)
        mesh.keeper.check(ORDERS)

    @pytest.mark.parametrize(
        ("identity", "why"),
        [
            ("spiffe://other.example/ns/a/sa/b", "not an identity of the trust domain"),
            ("spiffe://cluster.local", "not an identity of the trust domain"),
            ("spiffe://cluster.local/ns/istio-system/sa/isthmus", "the control plane's"),
            ("spiffe://cluster.local/isthmus/node/vm-1", "`isthmus node evict vm-1` puts it out"),
        ],
    )
    def test_what_cannot_be_revoked(self, mesh: Mesh, identity: str, why: str) -> None:
        with pytest.raises(Refused, match=why):
            mesh.requests.revoke(identity, take_back=False)


def test_an_unknown_step(mesh: Mesh) -> None:
    with pytest.raises(Refused, match="'taint' is none of prepare, activate, revoke-old and intermediate"):
        mesh.requests.rotate("taint", force=False)


class TestLists:
    def test_a_new_signer_waits_for_its_list_to_be_everywhere(self, mesh: Mesh) -> None:
        mesh.requests.revoke_certificate("abc", "keyCompromise", take_back=False)
        mesh.behind = ("edge-1",)
        first = mesh.keeper.latest.value
        mesh.keeper.rotate_intermediate()
        assert len(mesh.keeper.lists.latest.value.in_force) == 2
        for seconds in (1, 5):
            mesh.now = NOW + timedelta(seconds=seconds)
            mesh.keeper.sign_with_coming()
            assert mesh.keeper.latest.value.chain == first.chain
        mesh.behind = ()
        mesh.keeper.sign_with_coming()
        assert mesh.keeper.latest.value.chain != first.chain
        assert len(mesh.keeper.lists.latest.value.in_force) == 2, "what the first signed may live"

    def test_of_a_root_below_which_others_sign_nobody_goes_by_lists(self, mesh: Mesh) -> None:
        """What they sign would be refused for want of a list: peers are closed by their serial number alone."""
        mesh.requests.revoke_certificate("abc", "keyCompromise", take_back=False)
        assert len(mesh.keeper.lists.latest.value.in_force) == 1
        root, root_key = create_root("cluster.local", NOW)
        intermediate, key = create_intermediate("cluster.local", root, root_key, NOW)
        files = {"ca-cert.pem": pem_of(intermediate), "ca-key.pem": private_key(key).pem, "root-cert.pem": pem_of(root)}
        mesh.given = Given("corp", files)
        for _ in range(2):
            mesh.keeper.take(mesh.given)
        for keeper in (mesh.keeper, mesh.start()):
            lists = keeper.lists.latest.value
            assert (keeper.latest.value.root, lists.in_force, lists.serials) == (root, (), frozenset({0xABC}))
            assert lists.published[0].is_by(intermediate), "whoever wants it can have it"

    def test_it_does_not_wait_for_ever_or_where_nobody_is_revoked(self, mesh: Mesh) -> None:
        mesh.behind = ("edge-1",)
        first = mesh.keeper.latest.value
        mesh.keeper.rotate_intermediate()
        second = mesh.keeper.latest.value
        assert second.chain != first.chain
        mesh.requests.revoke_certificate("abc", "keyCompromise", take_back=False)
        mesh.keeper.rotate(Step.PREPARE)
        mesh.keeper.rotate(Step.ACTIVATE, force=True)
        assert mesh.keeper.latest.value.chain == second.chain
        assert set(mesh.keeper.latest.value.others) == {mesh.start().latest.value.root}
        mesh.now = NOW + timedelta(seconds=20)
        mesh.keeper.sign_with_coming()
        assert mesh.keeper.latest.value.chain == mesh.start().latest.value.chain != second.chain

    def test_another_signer_while_a_new_root_waits_is_the_new_roots(self, mesh: Mesh) -> None:
        mesh.requests.revoke_certificate("abc", "keyCompromise", take_back=False)
        mesh.behind = ("edge-1",)
        first = mesh.keeper.latest.value
        mesh.keeper.rotate(Step.PREPARE)
        mesh.keeper.rotate(Step.ACTIVATE, force=True)
        assert mesh.keeper.latest.value.root == first.root, "waits"
        mesh.keeper.rotate_intermediate()
        mesh.now = NOW + timedelta(seconds=20)
        mesh.keeper.sign_with_coming()
        assert mesh.keeper.latest.value.root != first.root
        assert mesh.start().latest.value.chain == mesh.keeper.latest.value.chain

    def test_what_is_revoked_and_what_cannot_be(self, mesh: Mesh) -> None:
        mesh.requests.revoke_certificate("0A:BC", "certificateHold", take_back=False)
        [one] = mesh.requests.shown()["revoked_certificates"]
        assert (one["serial"], one["reason"]) == ("abc", "certificateHold")
        [listed] = mesh.requests.lists()
        assert [entry["serial"] for entry in listed["revoked"]] == ["abc"]
        mesh.requests.revoke_certificate("abc", "unspecified", take_back=True)
        assert mesh.requests.shown()["revoked_certificates"] == []
        with pytest.raises(Refused, match="is an authority's"):
            serial = mesh.keeper.latest.value.chain[0].serial_number
            mesh.requests.revoke_certificate(f"{serial:x}", "unspecified", take_back=False)
        with pytest.raises(Refused, match="is none of"):
            mesh.requests.revoke_certificate("abc", "because", take_back=False)

    def test_what_is_held_can_be_revoked_for_good_and_what_is_so_stays(self, mesh: Mesh) -> None:
        for reason in ("certificateHold", "certificateHold", "keyCompromise", "keyCompromise"):
            mesh.requests.revoke_certificate("abc", reason, take_back=False)
            [one] = mesh.requests.shown()["revoked_certificates"]
            assert one["reason"] == reason
        with pytest.raises(Refused, match="abc is revoked already, for good, as keyCompromise"):
            mesh.requests.revoke_certificate("abc", "certificateHold", take_back=False)
        mesh.requests.revoke_certificate("abc", "unspecified", take_back=False)
        assert mesh.requests.shown()["revoked_certificates"] == [one], "that it is revoked was all that was asked"
        with pytest.raises(Refused, match="revoked for good"):
            mesh.requests.revoke_certificate("abc", "unspecified", take_back=True)

    def test_whoever_shows_it_gets_no_certificate(self, mesh: Mesh) -> None:
        own = mesh.keeper.latest.value.issue_control_plane(NOW).svid.chain[0].encode()
        mesh.keeper.check_certificate(own)
        serial = x509.load_pem_x509_certificate(own).serial_number
        mesh.requests.revoke_certificate(f"{serial:x}", "keyCompromise", take_back=False)
        with pytest.raises(NotEnrolled, match="was revoked"):
            mesh.keeper.check_certificate(own)
