"""ClientTrafficPolicy on real Envoys: which certificates clients need, and how TLS is spoken."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.real.backend import Backend
from tests.real.edge import (
    INTERMEDIATE,
    ROOT,
    SERVERS,
    Clients,
    asking,
    named,
    pem,
    policy,
    reference,
    validating,
    world,
)
from tests.real.fields import enforces
from tests.real.pki import Leaf
from tests.real.traffic import Manifest, gateway, routes, to
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

SPEC = "ClientTrafficPolicy.spec."
VALIDATION = f"{SPEC}tls.clientValidation."
SANS = f"{VALIDATION}subjectAltNames."
UPN = "1.3.6.1.4.1.311.20.2.3"


def upn(name: str, oid: str = UPN) -> x509.OtherName:
    """A user's principal name, as Active Directory's certificates have it: a UTF8String."""
    return x509.OtherName(x509.ObjectIdentifier(oid), bytes([0x0C, len(name)]) + name.encode())


LEAVES: dict[str, Leaf | None] = {
    "none": None,
    "billing": ROOT.issue("billing.internal.corp"),
    "BILLING": ROOT.issue("BILLING.internal.corp"),
    "deep": ROOT.issue("a.billing.internal.corp"),
    "domain": ROOT.issue("internal.corp"),
    "star": ROOT.issue("*.internal.corp"),
    "elsewhere": ROOT.issue("billing.internal.corp.evil.example"),
    "common name": ROOT.issue("billing.internal.corp", common_name="x"),
    "uri": ROOT.issue("spiffe://corp.example/billing"),
    "uri/x": ROOT.issue("spiffe://corp.example/billing/x"),
    "mail": ROOT.issue("me@internal.corp"),
    "mail of another": ROOT.issue("you@internal.corp.evil.example"),
    "10.0.0.1": ROOT.issue("10.0.0.1"),
    "10.0.0.11": ROOT.issue("10.0.0.11"),
    "2001:db8::1": ROOT.issue("2001:db8::1"),
    "alice": ROOT.issue(upn("alice@corp")),
    "bob": ROOT.issue(upn("bob@corp")),
    "alice of another type": ROOT.issue(upn("alice@corp", "1.2.3.4")),
}
DNS_NAMES = {"billing", "BILLING", "common name"}


def names(kind: str, **form: str) -> tuple[str, dict[str, Any]]:
    return f"{kind}[].{next(iter(form))}", {kind: [form]}


CASES: dict[str, tuple[tuple[str, dict[str, Any]], set[str]]] = {
    "dns-exact": (names("dnsNames", exact="billing.internal.corp"), DNS_NAMES),
    "dns-star": (names("dnsNames", exact="*.internal.corp"), {"star"}),
    "dns-prefix": (names("dnsNames", prefix="billing."), {*DNS_NAMES, "elsewhere"}),
    "dns-suffix": (names("dnsNames", suffix=".internal.corp"), {*DNS_NAMES, "deep", "star"}),
    "dns-regex": (names("dnsNames", regex="(billing|orders)\\.internal\\.corp"), {"billing", "common name"}),
    "dns-wildcard": (names("dnsNames", wildcard="*.internal.corp"), DNS_NAMES),
    "uri-exact": (names("uris", exact="spiffe://corp.example/billing"), {"uri"}),
    "uri-prefix": (names("uris", prefix="spiffe://corp.example/"), {"uri", "uri/x"}),
    "uri-suffix": (names("uris", suffix="/x"), {"uri/x"}),
    "uri-regex": (names("uris", regex="spiffe://corp.example/[a-z]+"), {"uri"}),
    "mail-exact": (names("emailAddresses", exact="me@internal.corp"), {"mail"}),
    "mail-prefix": (names("emailAddresses", prefix="you@"), {"mail of another"}),
    "mail-suffix": (names("emailAddresses", suffix="@internal.corp"), {"mail"}),
    "mail-regex": (names("emailAddresses", regex="[a-z]+@internal.corp"), {"mail"}),
    "ip-exact": (names("ipAddresses", exact="10.0.0.1"), {"10.0.0.1"}),
    "ip-exact-6": (names("ipAddresses", exact="2001:DB8:0::1"), {"2001:db8::1"}),
    "ip-prefix": (names("ipAddresses", prefix="10.0.0."), {"10.0.0.1", "10.0.0.11"}),
    "ip-suffix": (names("ipAddresses", suffix="::1"), {"2001:db8::1"}),
    "ip-regex": (names("ipAddresses", regex="10\\.0\\.0\\.."), {"10.0.0.1"}),
    "other-exact": (names("otherNames", exact="alice@corp", oid=UPN), {"alice"}),
    "other-prefix": (names("otherNames", prefix="bob@", oid=UPN), {"bob"}),
    "other-suffix": (names("otherNames", suffix="@corp", oid=UPN), {"alice", "bob"}),
    "other-regex": (names("otherNames", regex="(alice|carol)@corp", oid="1.2.3.4"), {"alice of another type"}),
}
REVOKED, BELOW, BELOW_REVOKED = ROOT.issue("a"), INTERMEDIATE.issue("b"), INTERMEDIATE.issue("c")
GOOD = LEAVES["billing"]
SPOKEN = {
    "v12": {"maxVersion": "1.2"},
    "v13": {"minVersion": "1.3"},
    "cipher": {"maxVersion": "1.2", "ciphers": ["ECDHE-ECDSA-AES256-GCM-SHA384"]},
    "curve": {"ecdhCurves": ["P-384"]},
    "fips": {"compliancePolicy": "FIPS_202205"},
    "cnsa1": {"compliancePolicy": "CNSA1_202603"},
    "cnsa2": {"compliancePolicy": "CNSA2_202603"},
}


def documents() -> Iterator[Manifest]:
    assert GOOD is not None
    for name, ((_, sans), _) in CASES.items():
        yield validating(name, subjectAltNames=sans)
    yield validating("spki", spkiHashes=[GOOD.spki])
    yield validating("hash", certificateHashes=[GOOD.hash])
    yield validating("list", crl={"refs": [{"kind": "Secret", "name": "root-list"}]})
    both = [{"name": "root-list"}, {"kind": "Secret", "name": "intermediate-list"}]
    yield validating("lists", crl={"refs": both})
    yield validating("leaf-list", crl={"refs": both[1:], "onlyVerifyLeafCertificate": True})
    yield validating("no-list", crl={"refs": [{"name": "nothing"}]})
    yield validating("simple", spkiHashes=[GOOD.spki])
    yield pem("root-list", ca_crl=ROOT.revoke(REVOKED))
    yield pem("intermediate-list", crl=INTERMEDIATE.revoke(BELOW_REVOKED))
    for name, spoken in SPOKEN.items():
        yield policy(name, tls=spoken)
    # One for the whole Gateway, whose server "own" has one of its own.
    billing = {"clientValidation": {"subjectAltNames": {"dnsNames": [{"exact": "billing.internal.corp"}]}}}
    yield gateway("wide", asking("wide"), asking("own"), selector={"app": "edge"})
    yield routes("wide", ["*.example.com"], {"route": [to("web")]}, gateways=["wide"])
    whole = policy("whole", tls=billing)
    whole["spec"]["targetRefs"] = [reference("wide", None)]
    yield whole
    yield policy(
        "own", target="wide", tls={"clientValidation": {"subjectAltNames": {"uris": [{"prefix": "spiffe://"}]}}}
    )
    # A second one for the same server: what comes first holds.
    yield policy("late", section="dns-exact", tls={"minVersion": "1.3"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("policy")


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Up]:
    lists = folder / "lists.pem"
    lists.write_bytes(ROOT.revoke(REVOKED))
    (folder / "ca.pem").write_bytes(ROOT.pem)
    servers = [asking(name) for name in CASES]
    servers += [asking(name) for name in ("spki", "hash", "list", "lists", "leaf-list", "no-list")]
    servers += [asking("list-file", caCertificates=str(folder / "ca.pem")), asking("simple", "SIMPLE")]
    strong = SERVERS.issue("*.example.com", key=ec.generate_private_key(ec.SECP384R1()))
    servers += [asking(name, "SIMPLE", **({"credentialName": "strong"} if "cnsa" in name else {})) for name in SPOKEN]
    more = [
        *documents(),
        pem("strong", tls_crt=strong.chain, tls_key=strong.key),
        validating("list-file", crl={"file": str(lists)}),
    ]
    with Backend() as backend, Up(folder, {"all.yaml": world(servers, backend.port, *more)}) as running:
        yield running


@pytest.fixture(scope="module")
def clients(up: Up, folder: Path) -> Clients:
    found = Clients(up, folder)
    eventually(lambda: found.status("dns-exact", GOOD) == 200, 30)
    return found


@pytest.mark.parametrize(
    ("name", "let_in"),
    [
        pytest.param(
            name,
            let_in,
            id=name,
            marks=enforces(SANS + field, *([f"{SANS}otherNames[].oid"] if name.startswith("other") else [])),
        )
        for name, ((field, _), let_in) in CASES.items()
    ],
)
def test_names(clients: Clients, name: str, let_in: set[str]) -> None:
    assert LEAVES.keys() - clients.refused(name, LEAVES) == let_in


@enforces(VALIDATION + "spkiHashes", VALIDATION + "certificateHashes")
def test_pins(clients: Clients) -> None:
    for name in ("spki", "hash"):
        assert LEAVES.keys() - clients.refused(name, LEAVES) == {"billing"}


@enforces(
    *(f"{VALIDATION}crl.{field}" for field in ("refs[].kind", "refs[].name", "file", "onlyVerifyLeafCertificate"))
)
def test_lists(clients: Clients, up: Up) -> None:
    """With a list, every CA of a chain needs one, unless only the leaf is looked at."""
    shown = {"good": GOOD, "revoked": REVOKED, "below": BELOW, "below, revoked": BELOW_REVOKED}
    refused = {name: clients.refused(name, shown) for name in ("list", "lists", "leaf-list", "list-file", "no-list")}
    assert refused == {
        "list": {"revoked", "below", "below, revoked"},
        "list-file": {"revoked", "below", "below, revoked"},
        "lists": {"revoked", "below, revoked"},
        "leaf-list": {"good", "revoked", "below, revoked"},
        "no-list": set(shown),
    }
    assert 'no Secret "nothing"' in up.output


def test_a_server_that_asks_for_no_certificate_cannot_check_any(clients: Clients, up: Up) -> None:
    assert clients.refused("simple", {"good": GOOD, "none": None}) == {"good", "none"}
    assert "its mode is SIMPLE" in up.output


@enforces(*(f"{SPEC}targetRefs[].{field}" for field in ("group", "kind", "name", "sectionName")))
def test_the_most_specific_policy_holds(clients: Clients, up: Up) -> None:
    shown = {"billing": GOOD, "uri": LEAVES["uri"], "mail": LEAVES["mail"]}
    assert clients.refused("wide", shown) == {"uri", "mail"}
    assert clients.refused("own", shown) == {"billing", "mail"}
    assert "ISM2240" in up.output
    assert version(clients, "dns-exact", ssl.TLSVersion.TLSv1_2) == 200, "the first of two holds"


def version(clients: Clients, name: str, only: ssl.TLSVersion, ciphers: str = "", leaf: Leaf | None = GOOD) -> int:
    context = clients.context(leaf)
    context.minimum_version = context.maximum_version = only
    if ciphers:
        context.set_ciphers(ciphers)
    answer = clients.send(name, None, context)
    return 0 if answer is None else answer.status_code


@enforces(SPEC + "tls.minVersion", SPEC + "tls.maxVersion", SPEC + "tls.ciphers")
def test_versions_and_ciphers(clients: Clients) -> None:
    v12, v13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    spoken = {name: [bool(version(clients, name, one)) for one in (v12, v13)] for name in ("v12", "v13", "curve")}
    assert spoken == {"v12": [True, False], "v13": [False, True], "curve": [True, True]}
    assert version(clients, "cipher", v12, "ECDHE-ECDSA-AES256-GCM-SHA384") == 200
    assert version(clients, "cipher", v12, "ECDHE-ECDSA-AES128-GCM-SHA256") == 0


def group(up: Up, name: str, offered: str, *options: str) -> bool:
    """Whether a handshake comes about whose key exchange may be ``offered`` only."""
    host, port = up.gateway(443)
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", "-servername", named(name), "-curves", offered]
    done = subprocess.run([*command, *options], input="", capture_output=True, text=True, timeout=30, check=False)
    return "Cipher is (NONE)" not in done.stdout and done.returncode == 0


@enforces(SPEC + "tls.ecdhCurves")
def test_curves(up: Up, clients: Clients) -> None:
    assert {offered: group(up, "curve", offered) for offered in ("P-256", "P-384")} == {"P-256": False, "P-384": True}


@enforces(SPEC + "tls.compliancePolicy")
def test_compliance_policies(up: Up, clients: Clients) -> None:
    """FIPS: no X25519, no ChaCha20. CNSA 1: P-384 alone, of the certificate's key, too. CNSA 2: ML-KEM alone."""
    offered = ("X25519", "P-256", "P-384")
    spoken = {name: {one for one in offered if group(up, name, one)} for name in ("v13", "fips", "cnsa1", "cnsa2")}
    assert spoken == {"v13": {"X25519", "P-256"}, "fips": {"P-256", "P-384"}, "cnsa1": {"P-384"}, "cnsa2": set()}
    chacha = ("-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256", "-tls1_3")
    assert group(up, "v13", "P-256", *chacha)
    assert not group(up, "fips", "P-256", *chacha)
