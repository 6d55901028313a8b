from __future__ import annotations

import pytest

from isthmus.model.registration import Selectors
from isthmus.proxy.plan import PlannedRegistration
from isthmus.proxy.workload_api.caller import Caller
from isthmus.proxy.workload_api.entitlement import Declared, Entitlement, meets

CALLER = Caller(10, 1000, 100, ((10, 5), (7, 3), (1, 0)), "/usr/bin/orders", "a" * 64, "orders.service")
WEB, DB = "spiffe://td/ns/shop/sa/web", "spiffe://td/ns/shop/sa/db"


@pytest.mark.parametrize(
    ("selectors", "met"),
    [
        (Selectors(uid=1000), True),
        (Selectors(uid=0), False),
        (Selectors(gid=100), True),
        (Selectors(gid=0), False),
        (Selectors(path="/usr/bin/orders"), True),
        (Selectors(path="/usr/bin/order"), False),
        (Selectors(sha256="a" * 64), True),
        (Selectors(sha256="b" * 64), False),
        (Selectors(systemd_unit="orders.service"), True),
        (Selectors(systemd_unit="other.service"), False),
        (Selectors(uid=1000, path="/usr/bin/orders"), True),
        (Selectors(uid=1000, path="/usr/bin/other"), False),
        (Selectors(), False),
    ],
)
def test_all_that_is_asked_must_be_true(selectors: Selectors, met: bool) -> None:
    assert meets(CALLER, selectors) is met


@pytest.mark.parametrize(
    "asked", [Selectors(path="/x"), Selectors(sha256="a" * 64), Selectors(systemd_unit="x.service")]
)
def test_what_is_not_known_meets_nothing(asked: Selectors) -> None:
    assert not meets(Caller(1, 0, 0), asked)


def registered(identity: str, hint: str = "", audiences: tuple[str, ...] | None = None) -> PlannedRegistration:
    return PlannedRegistration(identity, Selectors(uid=1000), 60, audiences, hint)


def test_a_program_of_ours_is_itself_first_then_what_it_is_registered_as() -> None:
    declared = Declared({(7, 3): WEB}, (registered(DB), registered(WEB)), 3600)
    assert declared.entitlements(CALLER) == (Entitlement(WEB, 3600), Entitlement(DB, 60))


def test_another_process_that_got_the_number_is_not_the_program() -> None:
    assert Declared({(7, 4): WEB}, (), 3600).entitlements(CALLER) == ()


def test_hints_are_unique() -> None:
    declared = Declared({}, (registered(WEB, "x"), registered(DB, "x")), 3600)
    assert [one.hint for one in declared.entitlements(CALLER)] == ["x", ""]


def test_audiences() -> None:
    assert Entitlement(WEB, 1).may_ask_for(("any",))
    assert Entitlement(WEB, 1, ("a", "b")).may_ask_for(("b",))
    assert not Entitlement(WEB, 1, ("a", "b")).may_ask_for(("b", "c"))


def test_a_digest_is_made_only_if_it_is_asked() -> None:
    assert not Declared({}, (registered(WEB),), 1).asks_for_digest
    one = PlannedRegistration(WEB, Selectors(sha256="a" * 64), 60)
    assert Declared({}, (one,), 1).asks_for_digest
