from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from isthmus.envoy_api import unpack
from isthmus.errors import SvidInvalid
from isthmus.identity.authority import Authority
from isthmus.identity.crl import Signer, build_list
from isthmus.identity.revoked import Reason, RevokedCertificate
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.store import load_or_create
from isthmus.identity.validate import read_csr
from isthmus.proxy.credential import (
    Certificate,
    certificate,
    certificate_secret,
    is_superseded,
    lasting,
    renewal,
    request_for_hosts,
    request_for_identity,
    time_left,
    trust_secret,
)
from isthmus.proxy.plan import TrustBundle, trust_version
from isthmus.state import StateDir

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ID = SpiffeId.workload("cluster.local", "shop", "orders")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return load_or_create(StateDir.at(tmp_path / "state").open(), "cluster.local", NOW)


def issued(authority: Authority, ttl: timedelta = timedelta(hours=1)) -> Certificate:
    request = request_for_identity(ID.uri)
    svid = authority.issue(read_csr(request.csr_pem.encode()), ID, ttl, NOW)
    return certificate(request.key_pem, [*svid.chain, *authority.bundle.roots])


def test_every_request_has_a_key_of_its_own_on_p256() -> None:
    requests = [request_for_identity(ID.uri), request_for_identity(ID.uri), request_for_hosts(("a.example.com",))]
    keys = [x509.load_pem_x509_csr(one.csr_pem.encode()).public_key() for one in requests]
    assert len({one.key_pem for one in requests}) == 3
    assert all(isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1) for key in keys)


def test_the_root_is_trusted_and_not_shown(authority: Authority) -> None:
    held = issued(authority)
    assert held.roots.decode() == authority.bundle.roots[0]
    assert len(x509.load_pem_x509_certificates(held.chain)) == 2
    assert held.not_after == NOW + timedelta(hours=1)


def test_an_answer_for_another_key_is_refused(authority: Authority) -> None:
    request = request_for_identity(ID.uri)
    svid = authority.issue(read_csr(request_for_identity(ID.uri).csr_pem.encode()), ID, timedelta(hours=1), NOW)
    with pytest.raises(SvidInvalid, match="another key"):
        certificate(request.key_pem, [*svid.chain, *authority.bundle.roots])


@pytest.mark.parametrize("answer", [[], ["one"], ["nothing", "at all"]])
def test_an_answer_that_is_not_one_is_refused(answer: list[str]) -> None:
    with pytest.raises(SvidInvalid):
        certificate(request_for_identity(ID.uri).key_pem, answer)


def test_renewal_is_at_half_life_within_five_percent() -> None:
    times = [renewal(NOW, NOW + timedelta(seconds=100), random.Random(seed)) - NOW for seed in range(200)]
    assert timedelta(seconds=47.5) <= min(times) < timedelta(seconds=48.5)
    assert timedelta(seconds=51.5) < max(times) <= timedelta(seconds=52.5)
    assert renewal(NOW, NOW - timedelta(hours=1), random.Random(1)) < NOW


def test_lasting(authority: Authority) -> None:
    held = issued(authority)
    assert lasting(held, NOW, timedelta(minutes=59))
    assert not lasting(held, NOW + timedelta(minutes=59), timedelta(minutes=1))


def test_secrets_as_envoy_takes_them(authority: Authority) -> None:
    held = issued(authority)
    own = unpack(certificate_secret("default", held).packed)
    assert own.name == "default"  # type: ignore[attr-defined]
    assert own.tls_certificate.private_key.inline_bytes == held.key_pem  # type: ignore[attr-defined]
    assert own.tls_certificate.certificate_chain.inline_bytes == held.chain  # type: ignore[attr-defined]
    trust = (TrustBundle("cluster.local", authority.bundle.roots), TrustBundle("other.example", ("no matter",)))
    roots = unpack(trust_secret("ROOTCA", trust).packed)
    assert roots.validation_context.trusted_ca.inline_bytes == held.roots  # type: ignore[attr-defined]


def test_lists_of_revoked_certificates_come_with_the_roots(authority: Authority) -> None:
    held = issued(authority)
    plain = TrustBundle("cluster.local", authority.bundle.roots)
    secret: Any = unpack(trust_secret("ROOTCA", (plain,)).packed)
    assert not secret.validation_context.HasField("crl")
    signer = Signer(authority.chain[0], authority.signing_key, held.not_after)
    serial = x509.load_pem_x509_certificate(held.chain).serial_number
    lists = {
        number: build_list(signer, [RevokedCertificate(number, NOW, Reason.SUPERSEDED, held.not_after)], 1, NOW).pem
        for number in (serial, 7)
    }
    mine, others = (replace(plain, lists=(lists[number],)) for number in (serial, 7))
    secret = unpack(trust_secret("ROOTCA", (mine,)).packed)
    assert secret.validation_context.crl.inline_bytes.decode() == lists[serial]
    assert secret.validation_context.only_verify_leaf_cert_crl, "roots have no lists"
    assert len({trust_version((one,)) for one in (plain, mine, others)}) == 3
    assert is_superseded(held, (mine,)), "it asks for another"
    assert not is_superseded(held, (others,))
    assert not is_superseded(held, (plain,))


def test_a_version_is_of_the_content(authority: Authority) -> None:
    first, second = issued(authority), issued(authority)
    assert certificate_secret("default", first) == certificate_secret("default", first)
    assert certificate_secret("default", first) != certificate_secret("default", second)
    one, two = (TrustBundle("one.example", (pem,)) for pem in ("1", "2"))
    assert trust_secret("ROOTCA", (one,)).version == trust_version((one,))
    assert len({trust_version(trust) for trust in ((one,), (two,), (one, two), (two, one))}) == 4


def test_no_repr_shows_a_key(authority: Authority) -> None:
    held = issued(authority)
    shown = repr((held, request_for_identity(ID.uri), certificate_secret("default", held)))
    assert "PRIVATE" not in shown


def test_a_clock_that_is_set_does_not_outlast_a_certificate(authority: Authority) -> None:
    held, hour = issued(authority), timedelta(hours=1)
    due = NOW + hour / 2
    minute = timedelta(minutes=1)

    def left(now: datetime, passed: timedelta) -> timedelta:
        return time_left(held, NOW, due, now, passed)

    assert left(NOW + 10 * minute, 10 * minute) == 20 * minute, "nobody touched the clock"
    assert left(NOW - minute / 2, 10 * minute) == 20 * minute, "set back: what really passed counts"
    assert left(NOW + 40 * minute, 10 * minute) <= timedelta(), (
        "set forward, or asleep: the certificate's end is nearer"
    )
    assert left(NOW - 24 * hour, 10 * minute) <= timedelta(), "set to before its beginning: nobody takes it"
