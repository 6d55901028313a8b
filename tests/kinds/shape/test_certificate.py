from __future__ import annotations

from tests.real.pki import Authority, Flaw, ec_key, key_pem, rsa_key

from isthmus.kinds.shape.certificate import (
    authority_oddities,
    chain_oddities,
    list_oddity,
    name_of,
    pair_problem,
    read_certificates,
    read_lists,
)

ROOT = Authority("root")
BELOW = ROOT.intermediate("below")
LEAF = BELOW.issue("a.example.com")


def test_pairs() -> None:
    assert pair_problem(LEAF.chain, LEAF.key, "c", "k") is None
    assert pair_problem(LEAF.chain, key_pem(ec_key()), "c", "k") == "k is not the key of c"
    assert pair_problem(LEAF.chain, key_pem(rsa_key()), "c", "k") == "k is not the key of c"
    assert pair_problem(LEAF.chain, None, "c", "k") == "it needs both c and k"
    wrong = pair_problem(BELOW.pem + LEAF.pem, LEAF.key, "c", "k")
    assert wrong == "c is in the wrong order: k is the key of its certificate 2, which must be the first"


def test_chains() -> None:
    assert list(chain_oddities([LEAF.certificate, BELOW.certificate, ROOT.certificate])) == []
    (wrong,) = chain_oddities([LEAF.certificate, ROOT.certificate, BELOW.certificate])
    assert wrong == "certificate 2 (root) did not sign certificate 1 (leaf)"
    (authority,) = chain_oddities([ROOT.issue("a", flaw=Flaw.CA).certificate])
    assert "CA:TRUE" in authority
    (nobody,) = chain_oddities([ROOT.issue(common_name="").certificate])
    assert "neither a SAN nor a CN" in nobody


def test_bundles() -> None:
    assert list(authority_oddities([ROOT.certificate, BELOW.certificate])) == []
    assert list(authority_oddities([ROOT.certificate, Authority("root", key=ROOT.private).certificate])) == []
    (twins,) = authority_oddities([ROOT.certificate, Authority("root").certificate])
    assert "both called root" in twins
    (none,) = authority_oddities([LEAF.certificate])
    assert "no CA certificate" in none


def test_lists() -> None:
    lists = read_lists(ROOT.revoke() + BELOW.revoke(LEAF))
    assert lists is not None
    assert len(lists) == 2
    assert list_oddity(lists, [ROOT.certificate, BELOW.certificate]) is None
    assert list_oddity(lists[:1], [ROOT.certificate, BELOW.certificate]) == (
        "no list in it is of below: every client of that CA is refused"
    )
    assert read_lists(b"x") is None
    assert read_lists(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----") is None


def test_names() -> None:
    assert read_certificates(b"") is None
    assert name_of(LEAF.certificate) == "leaf"
