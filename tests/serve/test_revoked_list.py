"""The lists of revoked certificates of a state: what is published, and when proxies go by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isthmus.control.nodes import Certified
from isthmus.errors import Refused
from isthmus.identity.authority import MAX_TTL, create_intermediate, create_root
from isthmus.identity.crl import Signer
from isthmus.identity.revoked import Reason, RevokedCertificate
from isthmus.serve.revoked_list import LISTS, RevokedLists
from isthmus.state import StateDir
from tests.identity.making import leaf, uri

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ROOT, ROOT_KEY = create_root("cluster.local", NOW)


def signer() -> Signer:
    certificate, key = create_intermediate("cluster.local", ROOT, ROOT_KEY, NOW)
    return Signer(certificate, key, NOW + MAX_TTL)


def revoked(serial: int, reason: Reason = Reason.UNSPECIFIED, until: datetime = NOW + DAY) -> RevokedCertificate:
    return RevokedCertificate(serial, NOW, reason, until)


class Book:
    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.state = StateDir.at(folder / "state").open()
        self.signer = signer()
        self.lists = self.start()

    def start(self) -> RevokedLists:
        lists = RevokedLists(self.state, lambda: self.now)
        lists.signed_by([self.signer])
        return lists

    @property
    def numbers(self) -> list[int]:
        return [one.number for one in self.lists.latest.value.published]

    @property
    def in_force(self) -> int:
        return len(self.lists.latest.value.in_force)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def test_an_empty_list_is_published_and_nobody_depends_on_it(book: Book) -> None:
    [one] = book.lists.latest.value.published
    assert one.serials == frozenset()
    assert book.in_force == 0
    assert (book.state.read(LISTS) or b"").decode() == one.pem


def test_who_is_on_it_and_its_number_rises(book: Book) -> None:
    [first] = book.numbers
    book.lists.revoke([revoked(7)])
    book.lists.revoke([revoked(7)])
    assert book.numbers == [first + 1]
    assert (book.in_force, book.lists.latest.value.serials) == (1, {7})


def test_it_outlives_a_restart_and_the_number_a_lost_file(book: Book) -> None:
    book.lists.revoke([revoked(7)])
    before = book.lists.latest.value
    book.lists = book.start()
    assert book.lists.latest.value == before
    book.state.remove(LISTS)
    book.now += HOUR
    [number] = book.numbers
    book.lists = book.start()
    assert book.numbers[0] > number
    assert book.lists.latest.value.published[0].serials == {7}


def test_it_is_refreshed_long_before_it_ends(book: Book) -> None:
    book.lists.revoke([revoked(7, until=NOW + 30 * DAY)])
    [before] = book.numbers
    book.now += DAY - HOUR
    book.lists.look()
    assert book.numbers == [before]
    book.now += 2 * HOUR
    book.lists.look()
    assert book.numbers > [before]
    assert book.lists.latest.value.published[0].next_update > book.now + MAX_TTL


def test_what_has_ended_leaves_it(book: Book) -> None:
    book.lists.revoke([revoked(7)])
    book.now += DAY + HOUR
    book.lists.look()
    assert (book.in_force, book.lists.latest.value.published[0].serials) == (0, frozenset())
    assert book.start().latest.value.revoked == ()


def test_only_what_is_held_can_be_taken_back(book: Book) -> None:
    book.lists.revoke([revoked(7), revoked(8, Reason.CERTIFICATE_HOLD)])
    book.lists.restore(8)
    assert book.lists.latest.value.published[0].serials == {7}
    with pytest.raises(Refused, match="revoked for good"):
        book.lists.restore(7)
    with pytest.raises(Refused, match="is not revoked"):
        book.lists.restore(9)


def test_what_is_held_and_then_evicted_cannot_be_taken_back(book: Book) -> None:
    book.lists.revoke([revoked(7, Reason.CERTIFICATE_HOLD)])
    book.lists.deny([Certified(7, "edge-1", "spiffe://cluster.local/ns/shop/sa/edge", NOW + HOUR)])
    assert [one.reason for one in book.lists.latest.value.revoked] == [Reason.PRIVILEGE_WITHDRAWN]
    with pytest.raises(Refused, match="revoked for good"):
        book.lists.restore(7)


def test_every_signer_of_whose_something_lives_has_a_list(book: Book) -> None:
    book.lists.revoke([revoked(7)])
    former, book.signer = book.signer, signer()
    book.lists.signed_by([book.signer, former])
    assert [one.serials for one in book.lists.latest.value.published] == [{7}, {7}]
    assert book.in_force == 2
    left = book.lists.latest.value.published[1]
    book.lists.signed_by([book.signer])
    book.lists.revoke([revoked(8)])
    assert [one.serials for one in book.lists.latest.value.published] == [{7, 8}, {7}]
    assert left in book.lists.latest.value.published, "nobody can sign another: it stays until it ends"


def test_a_signer_that_may_sign_no_list_takes_the_others_out_of_force(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    book.lists.revoke([revoked(7)])
    silent = Signer(leaf(uri("spiffe://cluster.local")), book.signer.key, NOW + MAX_TTL)
    book.lists.signed_by([book.signer, silent])
    assert book.in_force == 0
    assert book.lists.latest.value.serials == {7}
    assert "may sign no list of revoked certificates" in caplog.text


def test_what_evicted_nodes_hold_is_refused_though_it_cannot_be_written(book: Book) -> None:
    book.state.within("ca/revoked-certificates.json").mkdir()
    book.lists.deny([Certified(7, "edge-1", "spiffe://cluster.local/ns/shop/sa/edge", NOW + HOUR)])
    assert (book.in_force, book.lists.latest.value.serials) == (1, {7})
