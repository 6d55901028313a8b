from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from isthmus.identity.store import load_or_create
from isthmus.state import StateDir
from tests.cli.running import Isthmus


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
