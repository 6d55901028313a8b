from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from isthmus.demo.requests import FIRST, TRIES, Places, Try, as_curl, judge, token_function

WHERE = Places(
    "127.0.0.1:7443", "127.0.0.1:7080", "http://127.0.0.1:7000", Path("/tmp/my state"), Path("/tmp/my ca.pem")
)


def test_every_title_is_its_own() -> None:
    assert len({one.title for one in TRIES}) == len(TRIES)
    assert FIRST in TRIES


def test_every_answer_of_a_zero_trust_gateway_is_there() -> None:
    assert {one.expected for one in TRIES} == {200, 201, 301, 401, 403, 404}


@pytest.mark.parametrize("one", TRIES, ids=lambda one: one.title)
def test_curl_is_one_command(one: Try) -> None:
    words = shlex.split(as_curl(one, WHERE))
    if one.workload is None:
        assert words[0] == "curl"
    assert words[-1].endswith(one.path)
    if one.workload is not None:
        # By name where it is on the PATH, as a module of this Python elsewhere.
        assert words[words.index("run") - 1] == "isthmus"
        assert words[words.index("run") + 1] == "--state"
        assert words[words.index("--state") + 1] == "/tmp/my state"
        return
    port = "7443" if one.scheme == "https" else "7080"
    assert words[words.index("--resolve") + 1] == f"shop.example.com:{port}:127.0.0.1"
    assert ("--cacert" in words) == (one.scheme == "https")


def test_curl_in_full() -> None:
    one = Try("t", "/orders", 201, "w", method="POST", person="bob", headers=(("x-a", "it's"),), body='{"sku":"x"}')
    assert as_curl(one, WHERE) == (
        "curl -s -w '\\n%{http_code}\\n' -X POST -H 'x-a: it'\"'\"'s' -H \"authorization: Bearer $(token bob)\" "
        "-d '{\"sku\":\"x\"}' --resolve shop.example.com:7443:127.0.0.1 --cacert '/tmp/my ca.pem' "
        "https://shop.example.com:7443/orders"
    )


def test_token_function_asks_the_identity_provider() -> None:
    assert "http://127.0.0.1:7000/token" in token_function(WHERE)


def test_judging() -> None:
    assert judge(FIRST, 200, '{"subject":"alice"}').passed
    wrong_status = judge(FIRST, 503, "no healthy upstream")
    assert (wrong_status.passed, wrong_status.status) == (False, 503)
    assert "no healthy upstream" in (wrong_status.problem or "")
    wrong_body = judge(FIRST, 200, '{"subject":"admin"}')
    assert (wrong_body.passed, wrong_body.status) == (False, 200)
