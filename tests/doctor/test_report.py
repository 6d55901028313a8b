from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from isthmus.doctor.hello import Version
from isthmus.doctor.observed import Answer, Attempt, Observed, Own
from isthmus.doctor.report import Finding, Level, judge, wrong
from tests.real.pki import Authority, Flaw, Leaf, self_signed

NOW = datetime.now(UTC)
ROOT = Authority("root")
BETWEEN = ROOT.intermediate("between")
LEAF = BETWEEN.issue("a.example.com")
CHAIN = (LEAF.certificate, BETWEEN.certificate)
VERSIONS = {
    Version.TLS1_0: Answer.REFUSED,
    Version.TLS1_1: Answer.REFUSED,
    Version.TLS1_2: Answer.SPOKEN,
    Version.TLS1_3: Answer.SPOKEN,
}
DONE = Attempt("", "TLS 1.3", "TLS_AES_128_GCM_SHA256", "h2", timedelta(seconds=1))
GOOD = Observed(
    host="127.0.0.1",
    port=443,
    name="a.example.com",
    versions=VERSIONS,
    ciphers=("ECDHE-ECDSA-AES128-GCM-SHA256",),
    chain=CHAIN,
    stapled=True,
    staple_seen=True,
    bare=DONE,
)


def told(seen: Observed, check: str) -> Finding:
    """The worst that is said of ``check``."""
    found = [finding for finding in judge(seen, NOW) if finding.check == check]
    order = [Level.WRONG, Level.NOTE, Level.GOOD]
    return min(found, key=lambda finding: order.index(finding.level))


def own(leaf: Leaf, error: str = "", *, key_fits: bool = True) -> Own:
    return Own(leaf.certificate, key_fits, replace(DONE, error=error))


def test_nothing_is_wrong() -> None:
    findings = judge(GOOD, NOW)
    assert {finding.level for finding in findings} == {Level.GOOD}
    assert not wrong(findings)
    assert not any(finding.mend for finding in findings)


@pytest.mark.parametrize(
    ("check", "text", "seen"),
    [
        ("connection", "refused", replace(GOOD, unreachable="127.0.0.1:443: Connection refused")),
        ("tls", "does not speak TLS", replace(GOOD, not_tls="it says 'HTTP/1.1 400'")),
        ("tls", "then says nothing", replace(GOOD, silent=True)),
        ("version", "1.1", replace(GOOD, versions={**VERSIONS, Version.TLS1_1: Answer.SPOKEN})),
        ("version", "no version", replace(GOOD, versions=dict.fromkeys(VERSIONS, Answer.REFUSED))),
        ("cipher", "AES128-SHA", replace(GOOD, ciphers=("AES128-SHA",))),
        ("chain", "wrong order", replace(GOOD, chain=(LEAF.certificate, ROOT.certificate, BETWEEN.certificate))),
        ("chain", "CA's certificate", replace(GOOD, chain=(BETWEEN.certificate,))),
        ("validity", "ended", replace(GOOD, chain=(ROOT.issue("a.example.com", flaw=Flaw.EXPIRED).certificate,))),
        (
            "validity",
            "begins",
            replace(GOOD, chain=(ROOT.issue("a.example.com", flaw=Flaw.NOT_YET_VALID).certificate,)),
        ),
        ("name", "not for b.example.com", replace(GOOD, name="b.example.com")),
        ("name", "no name", replace(GOOD, chain=(ROOT.issue("a", flaw=Flaw.COMMON_NAME_ONLY).certificate,))),
        ("trust", "signed by CN=root", replace(GOOD, trust="unable to get local issuer certificate")),
        ("clock", "behind", replace(GOOD, bare=replace(DONE, server_time_off=timedelta(hours=-1)))),
        (
            "client certificate",
            "demands",
            replace(GOOD, wanted=("CN=root",), bare=replace(DONE, error="handshake failure")),
        ),
        ("client certificate", "then refused", replace(GOOD, bare=replace(DONE, error="access denied"))),
        ("client certificate", "never shown", replace(GOOD, own=own(LEAF))),
        ("own certificate", "ended", replace(GOOD, wanted=(), own=own(ROOT.issue("c", flaw=Flaw.EXPIRED)))),
        (
            "own certificate",
            "not for clients",
            replace(GOOD, wanted=(), own=own(ROOT.issue("c", flaw=Flaw.WRONG_PURPOSE))),
        ),
        ("own certificate", "CA's", replace(GOOD, wanted=(), own=own(ROOT.issue("c", flaw=Flaw.CA)))),
        ("own certificate", "is not that of", replace(GOOD, wanted=(), own=own(LEAF, key_fits=False))),
        ("own certificate", "not among", replace(GOOD, wanted=("CN=x",), own=own(self_signed("c"), "unknown ca"))),
        (
            "own certificate",
            "refused it: certificate revoked",
            replace(GOOD, wanted=(), own=own(LEAF, "certificate revoked")),
        ),
        ("in between", "something in between", replace(GOOD, stranger=True)),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(check: str, text: str, seen: Observed) -> None:
    findings = judge(seen, NOW)
    assert wrong(findings)
    faults = [finding for finding in findings if finding.level is Level.WRONG and finding.check == check]
    assert any(text.lower() in finding.text.lower() for finding in faults), findings
    assert all(finding.mend for finding in faults)


@pytest.mark.parametrize(
    ("check", "seen"),
    [
        ("version", replace(GOOD, versions={**VERSIONS, Version.TLS1_0: Answer.NOT_TESTED})),
        ("chain", replace(GOOD, chain=(*CHAIN, ROOT.certificate))),
        ("chain", replace(GOOD, chain=())),
        ("name", replace(GOOD, chain=(ROOT.issue("spiffe://td/ns/a/sa/b").certificate,))),
        ("staple", replace(GOOD, stapled=False)),
        ("clock", replace(GOOD, bare=replace(DONE, server_time_off=None))),
        ("alpn", replace(GOOD, bare=replace(DONE, alpn=""))),
        ("client certificate", replace(GOOD, wanted=(), own=own(LEAF), bare=replace(DONE, error="closed"))),
    ],
)
def test_what_is_worth_knowing(check: str, seen: Observed) -> None:
    assert told(seen, check).level is Level.NOTE
    assert not wrong(judge(seen, NOW))


def test_a_certificate_that_ends_soon() -> None:
    soon = ROOT.issue("a.example.com", valid=(NOW - timedelta(days=80), NOW + timedelta(days=5)))
    assert told(replace(GOOD, chain=(soon.certificate,)), "validity").level is Level.NOTE


@pytest.mark.parametrize(
    ("san", "name", "fits"),
    [
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", "example.com", False),
        ("A.example.com", "a.EXAMPLE.com", True),
        ("127.0.0.1", "127.0.0.1", True),
    ],
)
def test_names(san: str, name: str, fits: bool) -> None:
    seen = replace(GOOD, name=name, chain=(ROOT.issue(san).certificate,))
    assert (told(seen, "name").level is Level.GOOD) is fits


def test_who_shows_a_good_certificate_is_accepted() -> None:
    seen = replace(GOOD, wanted=("CN=between",), own=own(LEAF), bare=replace(DONE, error="closed without a word"))
    assert told(seen, "own certificate").text.startswith(("accepted", "yours is valid"))
    assert not wrong(judge(seen, NOW))
