from __future__ import annotations

import json
from datetime import timedelta

import pytest

from isthmus.envoy_api.packages import data_accesslog_v3
from isthmus.handshake.failure import Sampler, failure_of
from tests.handshake.making import BEGAN, entry


def test_an_entry_becomes_a_line() -> None:
    tls = data_accesslog_v3.TLSProperties
    shown = tls.CertificateProperties(subject="CN=a", issuer="CN=ca")
    found = entry(
        text="certificate has expired",
        tags={"serial": "0a", "fingerprint": "ff", "sans": "spiffe://td/a,-,-,-", "details": "- -"},
        tls_sni_hostname='a".example',
        tls_version=tls.TLSv1_3,
        peer_certificate_properties=shown,
    )
    line = failure_of(found, "gateway~shop~edge", "gateway_443").line(suppressed=3)
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "time": "2026-01-01T12:00:00.250000Z",
        "reason": "tls-certificate-expired",
        "proxy": "gateway~shop~edge",
        "listener": "gateway_443",
        "peer_address": "192.0.2.7",
        "peer_port": 40123,
        "sni": 'a".example',
        "tls_version": "TLSv1_3",
        "peer_subject": "CN=a",
        "peer_sans": ["spiffe://td/a"],
        "peer_issuer": "CN=ca",
        "peer_serial": "0a",
        "peer_fingerprint": "ff",
        "duration_ms": 3.0,
        "text": "certificate has expired - -",
        "suppressed": 3,
    }


def test_an_entry_of_who_said_nothing() -> None:
    told = json.loads(failure_of(entry(), "p", "l").line())
    assert told["reason"] == "tls-client-gone"
    assert (told["sni"], told["tls_version"], told["peer_serial"], told["peer_sans"]) == (None, None, None, [])
    assert "suppressed" not in told


def test_an_entry_without_an_address() -> None:
    with pytest.raises(ValueError, match="IP connection"):
        failure_of(entry(address=""), "p", "l")


def test_what_a_client_writes_is_cut() -> None:
    names = ",".join(f"n{number}.example" for number in range(1000))
    found = failure_of(entry(text="x" * 10_000, tags={"sans": names}), "p", "l")
    assert len(found.text) == 512
    assert len(found.sans) == 20


def test_an_address_gets_some_lines_and_then_one_a_second() -> None:
    sampler = Sampler()
    taken = [sampler.take("192.0.2.7", BEGAN) for _ in range(50)]
    assert taken == [0] * 20 + [None] * 30
    assert sampler.take("192.0.2.8", BEGAN) == 0
    assert sampler.take("192.0.2.7", BEGAN + timedelta(seconds=1)) == 30
    assert sampler.take("192.0.2.7", BEGAN + timedelta(seconds=1)) is None


def test_the_sampler_is_bounded() -> None:
    sampler = Sampler(burst=1, most=2)
    for number in range(10):
        assert sampler.take(f"192.0.2.{number}", BEGAN) == 0
    assert sampler.take("192.0.2.9", BEGAN) is None
    assert sampler.take("192.0.2.0", BEGAN) == 0, "forgotten"


def test_who_began_tls_and_went_counts_and_who_only_looked_does_not() -> None:
    looked, began = entry(), entry(tls_sni_hostname="a.example.com")
    assert not failure_of(looked, "p", "l").held_against
    assert failure_of(began, "p", "l").held_against
    assert not failure_of(entry(text="Secret is not supplied by SDS", tls_sni_hostname="a"), "p", "l").held_against
