from __future__ import annotations

from isthmus.decide.rego.overrun import LONGEST_SECONDS, MOST_BYTES, Evaluations

SETTLED = 100 << 20


def test_one_that_does_not_end_is_named() -> None:
    now = 0.0
    evaluations = Evaluations(lambda: now)
    with evaluations.one("shop/slow"):
        now = 20.0
        with evaluations.one("shop/other"):
            assert evaluations.overrun(0) is None
            now = LONGEST_SECONDS + 1
            assert "30 s (shop/slow)" in (evaluations.overrun(0) or "")
    assert evaluations.overrun(0) is None


def test_what_evaluations_add_is_counted_and_what_policies_need_is_not() -> None:
    evaluations = Evaluations(lambda: 0.0)
    evaluations.settled(SETTLED)
    with evaluations.one("shop/a"), evaluations.one("shop/b"), evaluations.one("shop/b"):
        assert evaluations.overrun(SETTLED + MOST_BYTES) is None
        assert "1024 MiB (shop/a, shop/b)" in (evaluations.overrun(SETTLED + MOST_BYTES + 1) or "")
    # Nobody evaluates: a policy is being compiled.
    assert evaluations.overrun(SETTLED + 2 * MOST_BYTES) is None
