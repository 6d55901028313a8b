from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from isthmus.identity.authority import create_root
from isthmus.identity.material import pem_of
from isthmus.identity.store import load_or_create
from isthmus.identity.validate import peer_identity
from isthmus.state import StateDir
from tests.cli.running import Isthmus
from tests.identity.making import new_key, request_pem

ORDERS = "spiffe://cluster.local/ns/shop/sa/orders"


def make_authority(state: str) -> None:
    load_or_create(StateDir.at(state).open(), "cluster.local", datetime.now(UTC), "istio-system")


def test_the_root_is_printed(isthmus: Isthmus) -> None:
    make_authority("state")
    ran = isthmus("ca", "root", "--state", "state")
    assert (ran.code, ran.err) == (0, "")
    (root,) = x509.load_pem_x509_certificates(ran.out.encode())
    assert root.issuer == root.subject
    assert "PRIVATE" not in ran.out


def test_the_root_is_written(isthmus: Isthmus) -> None:
    make_authority("state")
    ran = isthmus("ca", "root", "--state", "state", "--out", "root.pem")
    assert (ran.code, ran.out) == (0, "")
    assert Path("root.pem").read_text() == isthmus("ca", "root", "--state", "state").out


def test_a_file_that_cannot_be_written(isthmus: Isthmus) -> None:
    make_authority("state")
    ran = isthmus("ca", "root", "--state", "state", "--out", "nowhere/root.pem")
    assert (ran.code, ran.err) == (1, "isthmus: nowhere/root.pem: No such file or directory\n")


def test_before_the_first_start_there_is_none(isthmus: Isthmus) -> None:
    ran = isthmus("ca", "root", "--state", "state")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "isthmus: no certificate authority in state yet (isthmus up makes one)\n"
    assert not Path("state").exists(), "to ask makes nothing"


class TestRotate:
    def test_step_by_step_on_a_state_that_nobody_holds(self, isthmus: Isthmus) -> None:
        make_authority("state")
        first = isthmus("ca", "root", "--state", "state").out
        ran = isthmus("ca", "rotate", "--prepare", "--state", "state")
        assert (ran.code, ran.out) == (0, "")
        assert "the next root is prepared" in ran.err
        both = x509.load_pem_x509_certificates(isthmus("ca", "root", "--state", "state").out.encode())
        assert len(both) == 2
        assert isthmus("ca", "rotate", "--activate", "--state", "state").code == 0
        after = x509.load_pem_x509_certificates(isthmus("ca", "root", "--state", "state").out.encode())
        assert after == [both[1], both[0]]
        refused = isthmus("ca", "rotate", "--revoke-old", "--state", "state")
        assert refused.code == 1
        assert "may be in use until" in refused.err
        assert isthmus("ca", "rotate", "--revoke-old", "--force", "--state", "state").code == 0
        assert first not in isthmus("ca", "root", "--state", "state").out

    def test_at_once(self, isthmus: Isthmus) -> None:
        make_authority("state")
        ran = isthmus("ca", "rotate", "--state", "state")
        assert (ran.code, len(ran.err.splitlines())) == (0, 2)
        intermediate = Path("state/ca/intermediate.pem").read_bytes()
        assert isthmus("ca", "rotate", "--intermediate", "--state", "state").code == 0
        assert Path("state/ca/intermediate.pem").read_bytes() != intermediate

    def test_two_steps_in_one_are_wrong_usage(self, isthmus: Isthmus) -> None:
        for steps in (("--prepare", "--activate"), ("--intermediate", "--prepare"), ("--intermediate", "--root")):
            assert isthmus("ca", "rotate", *steps, "--state", "state").code == 2


class TestIssue:
    def test_an_svid_with_a_key_of_its_own(self, isthmus: Isthmus) -> None:
        make_authority("state")
        ran = isthmus("ca", "issue", "--spiffe-id", ORDERS, "--ttl", "1m", "--out", "made", "--state", "state")
        assert (ran.code, ran.out, ran.err) == (0, "", "written: made/tls.crt, made/tls.key, made/ca.crt\n")
        assert Path("made/tls.key").stat().st_mode & 0o777 == 0o600
        leaf, *above = x509.load_pem_x509_certificates(Path("made/tls.crt").read_bytes())
        assert peer_identity(leaf).uri == ORDERS
        assert len(above) == 1
        key = load_pem_private_key(Path("made/tls.key").read_bytes(), None)
        assert key.public_key() == leaf.public_key()
        assert Path("made/ca.crt").read_text() == isthmus("ca", "root", "--state", "state").out

    def test_a_request_gives_its_key_and_nothing_else(self, isthmus: Isthmus) -> None:
        make_authority("state")
        key = new_key()
        Path("wish.csr").write_text(request_pem(key, "spiffe://cluster.local/ns/shop/sa/somebody-else"))
        ran = isthmus(
            "ca", "issue", "--dns", "db.example.com", "--csr", "wish.csr", "--out", "made", "--state", "state"
        )
        assert ran.code == 0, ran.err
        assert not Path("made/tls.key").exists()
        leaf = x509.load_pem_x509_certificates(Path("made/tls.crt").read_bytes())[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [name.value for name in names] == ["db.example.com"]
        assert leaf.public_key() == key.public_key()

    @pytest.mark.parametrize(
        ("options", "code", "why"),
        [
            ((), 2, "--spiffe-id ID, or --dns NAME"),
            (("--spiffe-id", ORDERS, "--dns", "a.example"), 2, "--spiffe-id ID, or --dns NAME"),
            (("--spiffe-id", ORDERS, "--ttl", "soon"), 2, "not a duration"),
            (("--spiffe-id", ORDERS, "--ttl", "2161h"), 2, "not a duration of 10s to 2160h"),
            (("--spiffe-id", "spiffe://other.example/ns/a/sa/b"), 1, "not an identity of the trust domain"),
            (("--spiffe-id", "orders"), 1, "orders"),
            (("--spiffe-id", "spiffe://cluster.local/ns/istio-system/sa/isthmus"), 1, "not given out by hand"),
            (("--dns", "isthmus.istio-system.svc"), 1, "is the control plane's"),
            (("--spiffe-id", ORDERS, "--csr", "nowhere.csr"), 1, "nowhere.csr: No such file"),
        ],
    )
    def test_what_is_not_issued(self, isthmus: Isthmus, options: tuple[str, ...], code: int, why: str) -> None:
        make_authority("state")
        ran = isthmus("ca", "issue", *options, "--out", "made", "--state", "state")
        assert (ran.code, ran.out) == (code, "")
        assert why in ran.err
        assert not Path("made/tls.crt").exists()


class TestInspect:
    def test_a_file_in_plain_words(self, isthmus: Isthmus) -> None:
        make_authority("state")
        isthmus("ca", "issue", "--spiffe-id", ORDERS, "--ttl", "2h", "--out", "made", "--state", "state")
        ran = isthmus("ca", "inspect", "made/tls.crt")
        assert ran.code == 0
        assert f"names     URI:{ORDERS}" in ran.out
        assert "for server and client, EC secp256r1" in ran.out
        assert "ends in 1 hour 59 minutes" in ran.out
        assert "an authority's" in ran.out
        told = json.loads(isthmus("ca", "inspect", "made/tls.crt", "-o", "json").out)
        assert [one["authority"] for one in told] == [False, True]
        assert told[0]["names"] == [f"URI:{ORDERS}"]

    def test_one_that_has_ended_is_an_error(self, isthmus: Isthmus) -> None:
        root, _ = create_root("cluster.local", datetime(2001, 1, 1, tzinfo=UTC))
        Path("old.pem").write_bytes(pem_of(root))
        ran = isthmus("ca", "inspect", "old.pem")
        assert ran.code == 1
        assert "validity  ended" in ran.out

    @pytest.mark.parametrize(
        ("what", "why"),
        [
            ("nothing", "no such file, no HOST:PORT and no proxy's id"),
            ("127.0.0.1:1", "no TLS handshake"),
            ("127.0.0.1:1", "isthmus doctor tls 127.0.0.1:1 says more; with --sni NAME"),
            ("gateway~a~b", "no Envoy of that id runs on this machine with the state state"),
            ("garbage.pem", "not a certificate in PEM"),
            (".", "a folder"),
        ],
    )
    def test_what_cannot_be_looked_into(self, isthmus: Isthmus, what: str, why: str) -> None:
        Path("garbage.pem").write_text("garbage")
        ran = isthmus("ca", "inspect", what, "--state", "state")
        assert (ran.code, ran.out) == (1, "")
        assert why in ran.err


class TestRevoke:
    def test_an_identity_and_back(self, isthmus: Isthmus) -> None:
        make_authority("state")
        issue = ("ca", "issue", "--spiffe-id", ORDERS, "--out", "made", "--state", "state")
        assert isthmus(*issue).code == 0
        ran = isthmus("ca", "revoke", "made/tls.crt", "--state", "state")
        assert (ran.code, ran.err) == (0, f"{ORDERS} is revoked\n")
        assert isthmus(*issue).err == f"isthmus: {ORDERS} was revoked\n"
        assert isthmus("ca", "revoke", ORDERS, "--take-back", "--state", "state").code == 0
        assert isthmus(*issue).code == 0

    @pytest.mark.parametrize(
        ("which", "why"),
        [
            ("spiffe://other.example/ns/a/sa/b", "not an identity of the trust domain"),
            ("nowhere.pem", "neither a SPIFFE ID nor a file"),
            ("157f914f21cff2f95a99", "neither a SPIFFE ID nor a file (a serial number: --serial)"),
            ("garbage.pem", "garbage.pem: not a readable certificate"),
        ],
    )
    def test_what_cannot_be_revoked(self, isthmus: Isthmus, which: str, why: str) -> None:
        make_authority("state")
        Path("garbage.pem").write_text("garbage")
        ran = isthmus("ca", "revoke", which, "--state", "state")
        assert ran.code == 1
        assert why in ran.err


class TestAudit:
    def test_what_is_trusted_what_ends_and_who_is_revoked(self, isthmus: Isthmus) -> None:
        make_authority("state")
        isthmus("ca", "rotate", "--state", "state")
        isthmus("ca", "revoke", ORDERS, "--state", "state")
        ran = isthmus("ca", "audit", "--state", "state")
        assert ran.code == 0, ran.err
        for said in ("mesh root (active): URI:spiffe://cluster.local", "mesh root (old)", "mesh signing"):
            assert said in ran.out
        assert f"revoked: {ORDERS} since" in ran.out
        assert "SOON    mesh signing" in isthmus("ca", "audit", "--within", "400", "--state", "state").out
        told = json.loads(isthmus("ca", "audit", "-o", "json", "--state", "state").out)
        assert [one["store"] for one in told["certificates"]] == [
            "mesh root (active)",
            "mesh root (old)",
            "mesh signing",
        ]
        assert {one["state"] for one in told["certificates"]} == {"good"}

    def test_before_the_first_start(self, isthmus: Isthmus) -> None:
        for command in (("audit",), ("rotate",), ("revoke", ORDERS), ("issue", "--dns", "a.example")):
            ran = isthmus("ca", *command, "--state", "state")
            assert (ran.code, ran.out) == (1, "")
            assert "no certificate authority in state yet" in ran.err


class TestLists:
    def test_a_certificate_is_revoked_by_its_serial_number_and_listed(self, isthmus: Isthmus) -> None:
        make_authority("state")
        isthmus("ca", "issue", "--spiffe-id", ORDERS, "--out", "stolen", "--state", "state")
        serial = x509.load_pem_x509_certificate(Path("stolen/tls.crt").read_bytes()).serial_number
        ran = isthmus("ca", "revoke", "--serial", "stolen/tls.crt", "--reason", "keyCompromise", "--state", "state")
        assert (ran.code, ran.err) == (0, f"the certificate {serial:x} is revoked\n")
        pem = isthmus("ca", "crl", "--state", "state").out
        crl = x509.load_pem_x509_crl(pem.encode())
        assert [one.serial_number for one in crl] == [serial]
        assert isthmus("ca", "crl", "--der", "--out", "list.der", "--state", "state").code == 0
        assert x509.load_der_x509_crl(Path("list.der").read_bytes()) == crl
        told = json.loads(isthmus("ca", "crl", "-o", "json", "--state", "state").out)
        assert told["lists"][0]["revoked"][0]["reason"] == "keyCompromise"
        assert f"  {serial:x} since" in isthmus("ca", "crl", "--show", "--state", "state").out
        looked = isthmus("ca", "inspect", "stolen/tls.crt", "--state", "state")
        assert looked.code == 1
        assert "(keyCompromise)" in looked.out
        assert json.loads(isthmus("ca", "inspect", "stolen/tls.crt", "-o", "json", "--state", "state").out)[0][
            "revoked"
        ]
        assert f"revoked certificate: {serial:x} since" in isthmus("ca", "audit", "--state", "state").out
        back = isthmus("ca", "revoke", "--serial", f"{serial:x}", "--take-back", "--state", "state")
        assert (back.code, back.err) == (
            1,
            f"isthmus: {serial:x} is revoked for good: only certificateHold can be taken back\n",
        )

    @pytest.mark.parametrize("arguments", [("--show", "--out", "a.crl"), ("-o", "json", "--der")])
    def test_what_has_no_effect_is_refused(self, isthmus: Isthmus, arguments: tuple[str, ...]) -> None:
        make_authority("state")
        ran = isthmus("ca", "crl", *arguments, "--state", "state")
        assert (ran.code, "are for the lists themselves" in ran.err) == (2, True)

    def test_nothing_is_revoked(self, isthmus: Isthmus) -> None:
        make_authority("state")
        assert "  nothing is revoked\n" in isthmus("ca", "crl", "--show", "--state", "state").out

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            (ORDERS, "--serial", "ab"),
            (ORDERS, "--reason", "superseded"),
            ("--serial", "ab", "--take-back", "--reason", "superseded"),
        ],
    )
    def test_one_thing_at_a_time(self, isthmus: Isthmus, arguments: tuple[str, ...]) -> None:
        make_authority("state")
        assert isthmus("ca", "revoke", *arguments, "--state", "state").code == 2

    @pytest.mark.parametrize("serial", ["xyz", "0"])
    def test_what_is_no_serial_number(self, isthmus: Isthmus, serial: str) -> None:
        make_authority("state")
        ran = isthmus("ca", "revoke", "--serial", serial, "--state", "state")
        assert (ran.code, "is no serial number" in ran.err) == (1, True)
