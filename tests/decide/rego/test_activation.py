from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from isthmus.decide.rego.activation import NOT_YET, WATCH, Activation, Wish
from isthmus.model.rego_bundle import ActiveBundle, BundleKey, BundleSource, BundleVerification

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SOURCE = BundleSource("https://bundles.example/b.tar.gz", shortest=timedelta(seconds=10), longest=timedelta(seconds=30))
FILE = BundleSource("policies/b.tar.gz")
ONE, TWO = ActiveBundle("1" * 64, "one"), ActiveBundle("2" * 64, "two")


def seconds(activation: Activation) -> float:
    return (activation.due - NOW).total_seconds()


def test_a_good_bundle_comes_into_force() -> None:
    now = Activation(NOW).activated(ONE, '"a"', NOW, SOURCE, 0.5)
    assert (now.active, now.tag, now.since, now.error) == (ONE, '"a"', NOW, None)
    assert seconds(now) == 20
    later = NOW + timedelta(hours=1)
    assert now.activated(ONE, '"b"', later, SOURCE, 0).since == NOW
    assert now.activated(TWO, '"b"', later, SOURCE, 0).since == later


def test_files_are_looked_at_often() -> None:
    now = Activation(NOW).activated(ONE, "1-2-3", NOW, FILE, 0.9)
    assert now.due - NOW == WATCH
    assert now.failed("gone", NOW, FILE, 1.0).due - NOW == WATCH


def test_what_is_refused_leaves_the_last_good_one_in_force() -> None:
    good = Activation(NOW).activated(ONE, '"a"', NOW, SOURCE, 0)
    bad = good.rejected("not signed", '"b"', NOW, SOURCE, 0)
    assert (bad.active, bad.tag, bad.error, bad.refused) == (ONE, '"b"', "not signed", True)
    # The server still has it: it was not mended.
    assert bad.unchanged(NOW, SOURCE, 0).error == "not signed"
    # The server went away: what it had last is still the news.
    assert bad.failed("status 503", NOW, SOURCE, 0).error == "not signed"
    assert bad.activated(TWO, '"c"', NOW, SOURCE, 0) == replace(good, active=TWO, tag='"c"')


def test_failures_are_tried_again_ever_more_slowly() -> None:
    now = Activation(NOW)
    waits = []
    for _ in range(7):
        now = now.failed("status 503", NOW, SOURCE, 1.0)
        waits.append(seconds(now))
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert seconds(Activation(NOW).failed("status 503", NOW, SOURCE, 0.0)) == 0.5
    assert (now.error, now.refused, now.active) == ("status 503", False, None)
    again = now.unchanged(NOW, SOURCE, 0)
    assert (again.error, again.failures) == (None, 0)


def test_a_clock_that_was_set_back() -> None:
    now = Activation(NOW).activated(ONE, None, NOW, SOURCE, 1.0)
    assert now.wait(NOW + timedelta(seconds=20), SOURCE) == timedelta(seconds=10)
    assert now.wait(NOW + timedelta(days=1), SOURCE) == timedelta()
    assert now.wait(NOW - timedelta(days=1), SOURCE) == timedelta()
    assert Activation(NOW).error == NOT_YET


def test_what_is_kept_is_of_one_policy_and_source() -> None:
    wish = Wish("shop/a", SOURCE, "envoy/authz/allow", token="secret")
    signed = replace(SOURCE, verification=BundleVerification((BundleKey("a", "RS256", "PEM"),)))
    assert replace(wish, path="x/allow").key == replace(wish, source=signed).key == wish.key
    assert len({wish.key, replace(wish, policy="shop/b").key, replace(wish, source=FILE).key}) == 3
    assert "secret" not in repr(wish)
