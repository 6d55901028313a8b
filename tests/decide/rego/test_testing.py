from __future__ import annotations

import pytest

from isthmus.decide.rego.source import Module, Policy
from isthmus.decide.rego.testing import Outcome, find_tests, run_tests
from isthmus.errors import PolicyBroken

POLICY = Module("authz.rego", "package authz\ndefault allow := false\nallow if input.user in [data.owner]\n")
TESTS = """\
package authz_test
import data.authz
alice := {"user": "alice"}
test_owner if authz.allow with input as alice
test_other if not authz.allow with input as {"user": "bob"}
test_wrong if authz.allow with input as {"user": "bob"}
test_mocked if {
    authz.allow with input as {"user": "bob"} with data.owner as "bob"
}
todo_test_later if input.never
test_clash := 1
test_clash := 2
"""


def policy(text: str = TESTS) -> Policy:
    return Policy("", (POLICY, Module("authz_test.rego", text)), {"owner": "alice"})


def test_tests_are_found_with_their_lines() -> None:
    found = find_tests(policy())
    assert [(one.package, one.name, one.line) for one in found] == [
        ("authz_test", "test_owner", 4),
        ("authz_test", "test_other", 5),
        ("authz_test", "test_wrong", 6),
        ("authz_test", "test_mocked", 7),
        ("authz_test", "todo_test_later", 10),
        ("authz_test", "test_clash", 11),
    ]


def test_a_test_is_true_or_has_failed() -> None:
    tested = run_tests(policy(), find_tests(policy()), lambda: 0.0)
    assert [one.outcome for one in tested] == [
        *(Outcome.PASS, Outcome.PASS, Outcome.FAIL, Outcome.PASS, Outcome.SKIPPED),
        Outcome.ERROR,
    ]


def test_tests_that_do_not_compile() -> None:
    broken = policy("package t\ntest_a if no_such(1)\n")
    with pytest.raises(PolicyBroken, match="no_such"):
        list(run_tests(broken, find_tests(broken), lambda: 0.0))
