from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from isthmus.errors import PortTaken
from isthmus.model.world import Address, PortKey
from isthmus.proxy.ports import PortBook, Published, check_published, free_port, is_free

HERE = "127.0.0.1"
EDGE = PortKey("gateway~shop~edge", "gateway", 443)
OTHER = PortKey("gateway~shop~other", "gateway", 443)
INBOUND = PortKey("sidecar~shop~orders", "inbound", 8080)


class Files:
    """The state directory, in memory."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.written = 0

    def read(self, name: str) -> bytes | None:
        return self.held.get(name)

    def write_private(self, name: str, data: bytes) -> None:
        self.held[name] = data
        self.written += 1


@contextmanager
def listening(host: str = HERE) -> Iterator[int]:
    """Somebody else's port."""
    with socket.socket() as other:
        other.bind((host, 0))
        other.listen()
        yield other.getsockname()[1]


def test_every_place_has_a_port_of_its_own() -> None:
    settled = PortBook(Files()).settle({EDGE: HERE, OTHER: HERE, INBOUND: HERE})
    assert settled.keys() == {EDGE, OTHER, INBOUND}
    assert len({address.port for address in settled.values()}) == 3
    assert {address.host for address in settled.values()} == {HERE}


def test_ports_are_kept_over_restarts() -> None:
    files = Files()
    first = PortBook(files).settle({EDGE: HERE, INBOUND: HERE})
    assert PortBook(files).settle({INBOUND: HERE, EDGE: HERE}) == first
    assert files.written == 1, "what stays the same is not written again"


def test_a_kept_port_that_somebody_has_meanwhile_is_given_up() -> None:
    files = Files()
    with listening() as port:
        entry = {"proxy": INBOUND.proxy, "purpose": "inbound", "number": 8080, "host": HERE, "port": port}
        files.held["ports.json"] = json.dumps([entry]).encode()
        assert PortBook(files).settle({INBOUND: HERE})[INBOUND].port != port


def test_a_kept_port_that_our_own_envoy_holds_stays() -> None:
    """The control plane starts again beside Envoys that go on."""
    files = Files()
    with listening() as port:
        entry = {"proxy": INBOUND.proxy, "purpose": "inbound", "number": 8080, "host": HERE, "port": port}
        files.held["ports.json"] = json.dumps([entry]).encode()
        assert PortBook(files, check=False).settle({INBOUND: HERE})[INBOUND] == Address(HERE, port)


@pytest.mark.parametrize("spoilt", [b"", b"{", b"5", b"[1]", b'[{"proxy": "x"}]', b"\xff"])
def test_a_spoilt_file_counts_as_none(spoilt: bytes) -> None:
    files = Files()
    files.held["ports.json"] = spoilt
    assert PortBook(files).settle({INBOUND: HERE})[INBOUND].port > 0


def test_a_refused_port_is_replaced_by_another() -> None:
    book = PortBook(Files())
    before = book.settle({INBOUND: HERE, EDGE: HERE})
    after = book.settle({INBOUND: HERE, EDGE: HERE}, taken=[INBOUND])
    assert after[EDGE] == before[EDGE]
    # The system may name the same port again where nobody really has it, but never one of ours.
    assert after[INBOUND].port not in {before[EDGE].port}


def test_another_interface_is_another_port() -> None:
    book = PortBook(Files())
    book.settle({EDGE: HERE})
    assert book.settle({EDGE: "127.0.0.2"})[EDGE].host == "127.0.0.2"


def test_a_published_port_is_the_gateways_that_declares_it() -> None:
    book = PortBook(Files(), [Published(HERE, 18443, 443), Published("127.0.0.2", 18080, 80)])
    settled = book.settle({EDGE: HERE, INBOUND: HERE, PortKey(EDGE.proxy, "gateway", 80): HERE})
    assert settled[EDGE] == Address(HERE, 18443)
    assert settled[PortKey(EDGE.proxy, "gateway", 80)] == Address("127.0.0.2", 18080)
    assert settled[INBOUND].port not in (18443, 18080)


def test_a_publication_that_names_its_gateway_comes_first() -> None:
    book = PortBook(Files(), [Published(HERE, 18443, 443), Published(HERE, 19443, 443, "shop/other")])
    settled = book.settle({EDGE: HERE, OTHER: HERE})
    assert (settled[EDGE].port, settled[OTHER].port) == (18443, 19443)


def test_a_port_published_for_two_gateways_is_refused() -> None:
    book = PortBook(Files(), [Published(HERE, 18443, 443)])
    with pytest.raises(
        PortTaken, match=r"18443 is published for gateway~shop~\w+ and for .* -p NAMESPACE/GATEWAY:18443:443"
    ):
        book.settle({EDGE: HERE, OTHER: HERE})
    assert book.settle({EDGE: HERE})[EDGE].port == 18443, "one of them alone may have it"


def test_a_gateway_that_is_gone_holds_no_published_port() -> None:
    """A Gateway may be renamed, while running and between two starts."""
    files, published = Files(), [Published(HERE, 18443, 443)]
    book = PortBook(files, published)
    book.settle({EDGE: HERE})
    assert book.settle({OTHER: HERE})[OTHER].port == 18443
    assert PortBook(files, published).settle({EDGE: HERE})[EDGE].port == 18443


def test_a_published_port_stays_though_it_was_refused() -> None:
    """Nobody asked for another: the refusal is shown until the port is free."""
    book = PortBook(Files(), [Published(HERE, 18443, 443)])
    book.settle({EDGE: HERE})
    assert book.settle({EDGE: HERE}, taken=[EDGE])[EDGE] == Address(HERE, 18443)


def test_what_nobody_declares_is_told() -> None:
    used, unused = Published(HERE, 18443, 443), Published(HERE, 18080, 80)
    other = Published(HERE, 19443, 443, "shop/nobody")
    assert PortBook(Files(), [used, unused, other]).unused([EDGE, INBOUND]) == (unused, other)


def test_a_process_of_ours_keeps_its_port_too() -> None:
    files = Files()
    first = PortBook(files).kept("control-plane", "ads", HERE)
    book = PortBook(files)
    assert book.kept("control-plane", "ads", HERE) == first
    assert book.kept("control-plane", "http", HERE) != first
    assert first not in book.settle({EDGE: HERE, INBOUND: HERE}).values()


def test_what_was_published_is_checked_before_anything_starts() -> None:
    free = Published(HERE, free_port(HERE), 443)
    check_published([free])
    with (
        listening() as port,
        pytest.raises(PortTaken, match=rf"127\.0\.0\.1:{port} cannot be opened: .* \(asked for with -p"),
    ):
        check_published([free, Published(HERE, port, 80)])


def test_one_port_cannot_be_published_twice() -> None:
    port = free_port(HERE)
    with pytest.raises(PortTaken, match="asked for twice"):
        check_published([Published(HERE, port, 443), Published(HERE, port, 80)])
    check_published([Published(HERE, port, 443), Published("127.0.0.2", port, 80)])


def test_free_or_not() -> None:
    with listening() as port:
        assert not is_free(Address(HERE, port))
    assert is_free(Address(HERE, port))
    chosen = free_port(HERE)
    assert free_port(HERE, {chosen}) != chosen
    if socket.has_ipv6 and is_free(Address("::1", 0)):
        assert free_port("::1") > 0
