from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from isthmus.handshake.back_off import BackOff, network_of
from isthmus.model.handshake import FailedHandshakes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = FailedHandshakes(
    threshold=5,
    interval=timedelta(seconds=10),
    base_ejection=timedelta(seconds=1),
    max_ejection=timedelta(seconds=8),
    exempt=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
)
CLIENT = "192.0.2.7"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def fail(book: BackOff, seconds: float, address: str = CLIENT, times: int = 5) -> bool:
    return [book.failed(address, at(seconds)) for _ in range(times)][-1]


def test_the_threshold_shuts_out_and_time_lets_in_again() -> None:
    book = BackOff(SETTINGS)
    assert not fail(book, 0, times=4)
    assert book.shut_out(at(0)) == ()
    assert book.failed(CLIENT, at(0.1))
    assert book.shut_out(at(0.1)) == (ip_network("192.0.2.7/32"),)
    assert book.shut_out(at(1.2)) == ()


def test_each_time_twice_as_long_up_to_the_longest() -> None:
    book, now, lasted = BackOff(SETTINGS), 0.0, []
    for _ in range(6):
        assert fail(book, now)
        until = next(step for step in range(1, 200) if not book.shut_out(at(now + step / 10)))
        lasted.append(until / 10)
        now += until / 10
    assert lasted == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_who_was_good_for_long_begins_anew() -> None:
    book = BackOff(SETTINGS)
    fail(book, 0)
    fail(book, 1.5)
    assert book.shut_out(at(3.4))
    assert fail(book, 40)
    assert not book.shut_out(at(41.1))


def test_failures_leak_away() -> None:
    book = BackOff(SETTINGS)
    assert not any(book.failed(CLIENT, at(second * 2.5)) for second in range(100))
    assert any(book.failed(CLIENT, at(300 + second * 1.5)) for second in range(100))


def test_failures_of_who_is_shut_out_count_for_nothing() -> None:
    book = BackOff(SETTINGS)
    fail(book, 0)
    assert not fail(book, 0.5, times=100)
    assert book.shut_out(at(1.1)) == ()


def test_a_threshold_of_one() -> None:
    assert BackOff(replace(SETTINGS, threshold=1)).failed(CLIENT, NOW)


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1"])
def test_who_is_exempt(address: str) -> None:
    book = BackOff(SETTINGS)
    assert not fail(book, 0, address, times=50)


@pytest.mark.parametrize(
    ("address", "exempt", "free"),
    [
        (CLIENT, "192.0.2.0/24", True),
        (CLIENT, "192.0.2.8/32", False),
        (CLIENT, "2001:db8::/32", False),
        ("2001:db8::7", "2001:db8::/32", True),
        ("2001:db8::7", "2001:db8::7/128", False),
    ],
)
def test_who_was_shut_out_and_is_exempt_now(address: str, exempt: str, free: bool) -> None:
    book = BackOff(SETTINGS)
    fail(book, 0, address)
    assert book.shut_out(at(0.5)) != ()
    book.settings = replace(SETTINGS, exempt=(ip_network(exempt),))
    assert (book.shut_out(at(0.5)) == ()) is free


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ],
)
def test_what_is_shut_out(address: str, network: str) -> None:
    assert network_of(address) == ip_network(network)


def test_addresses_within_one_ipv6_network_are_one() -> None:
    book = BackOff(SETTINGS)
    assert [book.failed(f"2001:db8::{number}", NOW) for number in range(1, 6)][-1]


def test_what_is_no_address() -> None:
    with pytest.raises(ValueError, match="nobody"):
        BackOff(SETTINGS).failed("nobody", NOW)


def test_the_book_is_bounded_and_keeps_who_is_shut_out() -> None:
    book = BackOff(SETTINGS, most=10)
    fail(book, 0)
    for number in range(100):
        book.failed(f"198.51.100.{number}", at(0.1))
    assert book.shut_out(at(0.2)) == (ip_network("192.0.2.7/32"),)
    for number in range(20):
        fail(book, 0.3, f"203.0.113.{number}")
    assert len(book.shut_out(at(0.4))) == 10
