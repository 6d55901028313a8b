from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.errors import NotEnrolled, Refused
from isthmus.identity.authority import create_root
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.ticket import Ticket, pin_of, pinned

from .making import NOW

PLANE = SpiffeId.parse("spiffe://cluster.local/ns/istio-system/sa/isthmus")
TICKET = Ticket("edge-1", PLANE, ("ab" * 32,), 15013, "secret-of-the-token")


def test_a_ticket_is_one_word_that_reads_back() -> None:
    written = TICKET.encode()
    assert written.split() == [written]
    assert Ticket.decode(f"  {written}\n") == TICKET
    assert "secret-of-the-token" not in repr(TICKET)


@pytest.mark.parametrize(
    "text", ["", "hello", "isthmus-join-1.", "isthmus-join-1.ä", TICKET.encode()[:-9], "isthmus-join-1." + "A" * 9000]
)
def test_what_is_no_ticket_is_not_repeated(text: str) -> None:
    with pytest.raises(Refused) as refused:
        Ticket.decode(text)
    assert "secret" not in str(refused.value)
    assert not text or text not in str(refused.value)


def test_of_what_is_shown_only_what_is_pinned_is_kept() -> None:
    (own, _), (other, _) = create_root("cluster.local", NOW), create_root("cluster.local", NOW)
    shown = b"".join(root.public_bytes(Encoding.PEM) for root in (other, own)).decode()
    assert pinned(shown, (pin_of(own),)) == own.public_bytes(Encoding.PEM).decode()
    with pytest.raises(NotEnrolled, match="another root certificate than the one that the join token names"):
        pinned(other.public_bytes(Encoding.PEM).decode(), (pin_of(own),))


@pytest.mark.parametrize("shown", ["", "<html>", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_shows_no_certificates_is_not_the_control_plane(shown: str) -> None:
    with pytest.raises(NotEnrolled):
        pinned(shown, ("00" * 32,))
