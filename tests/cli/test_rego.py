from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.real.up import isthmus

AUTHZ = "package authz\ndefault allow := false\nallow if input.user in data.admins\n"
TESTS = """\
package authz_test
import data.authz
test_admin if authz.allow with input as {"user": "alice"}
test_other if not authz.allow with input as {"user": "bob"}
todo_test_later if input.never
"""
WRONG = 'test_wrong if authz.allow with input as {"user": "bob"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "authz.rego").write_text(AUTHZ)
    (tmp_path / "authz_test.rego").write_text(TESTS)
    (tmp_path / "data.json").write_text('{"admins": ["alice"]}')
    return tmp_path


def rego(folder: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return isthmus("rego", *arguments, cwd=folder, stdin=stdin)


def test_tests_that_hold(folder: Path) -> None:
    ran = rego(folder, "test", ".")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "PASS: 2/3\nSKIPPED: 1/3\n", "")
    assert "data.authz_test.test_admin: PASS" in rego(folder, "test", ".", "-v").stdout


def test_a_test_that_does_not(folder: Path) -> None:
    (folder / "authz_test.rego").write_text(TESTS + WRONG)
    ran = rego(folder, "test", ".")
    assert ran.returncode == 1
    assert ran.stdout.startswith("authz_test.rego:6: data.authz_test.test_wrong: FAIL")
    ran = rego(folder, "test", ".", "-o", "json", "--run", "wrong|admin")
    told = json.loads(ran.stdout)
    assert (ran.returncode, told["passed"], told["failed"], told["skipped"]) == (1, 1, 1, 0)
    assert told["tests"][1]["result"] == "FAIL"


def test_policies_that_do_not_compile(folder: Path) -> None:
    (folder / "authz.rego").write_text("package authz\nallow if http.send({})\n")
    ran = rego(folder, "test", ".")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "authz.rego:2: the engine has no function http.send" in ran.stderr
    assert rego(folder, "test", ".", "--run", "[").returncode == 2


def test_what_a_rule_says_of_an_input(folder: Path) -> None:
    ran = rego(folder, "eval", ".", "--path", "authz/allow", "--input", "-", stdin='{"user": "alice"}')
    assert (ran.returncode, ran.stdout) == (0, "true\n")
    assert rego(folder, "eval", ".", "--path", "authz/none").returncode == 1
    assert rego(folder, "eval", ".", "--path", "authz/allow", "--input", "missing.json").returncode == 2
