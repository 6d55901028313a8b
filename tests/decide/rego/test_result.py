from __future__ import annotations

from typing import Any

import pytest

from isthmus.decide.rego.result import Verdict, allow, deny, read_result
from isthmus.errors import Undecided


def pairs(options: Any) -> list[tuple[str, str]]:
    return [(one.header.key, one.header.value) for one in options]


def test_a_boolean_is_a_decision() -> None:
    assert (read_result(True), read_result(False)) == (Verdict(True), Verdict(False))


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "true",
        [],
        {},
        {"allowed": "yes"},
        {"allowed": False, "http_status": "403"},
        {"allowed": False, "http_status": 99},
        {"allowed": False, "http_status": True},
        {"allowed": True, "headers": 1},
        {"allowed": True, "headers": {"a": 1}},
        {"allowed": True, "headers": ["a"]},
        {"allowed": True, "request_headers_to_remove": "a"},
        {"allowed": True, "query_parameters_to_set": []},
        {"allowed": True, "body": 1},
        {"allowed": True, "dynamic_metadata": []},
    ],
)
def test_anything_else_is_an_error(value: Any) -> None:
    with pytest.raises(Undecided):
        read_result(value)


def test_what_stands_beside_allowed_is_done() -> None:
    one = read_result(
        {
            "allowed": True,
            "headers": [{"a": ["1", "2"]}, {"b": "3"}],
            "response_headers_to_add": {"c": "4"},
            "request_headers_to_remove": ["d"],
            "query_parameters_to_set": {"q": ["5", "6"]},
            "query_parameters_to_remove": ["r"],
            "dynamic_metadata": {"own": [1, {"x": None}], "reason": "spoofed", "consumer": "x", "decision_id": "x"},
        }
    )
    response = allow((one, read_result({"allowed": True, "headers": {"e": "7"}})), "id")
    ok = response.ok_response
    assert response.status.code == 0
    assert pairs(ok.headers) == [("a", "1"), ("a", "2"), ("b", "3"), ("e", "7")]
    assert pairs(ok.response_headers_to_add) == [("c", "4")]
    assert (list(ok.headers_to_remove), list(ok.query_parameters_to_remove)) == (["d"], ["r"])
    assert [(one.key, one.value) for one in ok.query_parameters_to_set] == [("q", "5"), ("q", "6")]
    assert set(response.dynamic_metadata.fields) == {"own", "decision_id"}
    assert response.dynamic_metadata["decision_id"] == "id"


def test_a_denial_has_a_reason_and_may_have_a_body() -> None:
    response = deny(
        read_result({"allowed": False, "http_status": 429, "body": "no", "headers": {"a": "b"}}), "why", "id"
    )
    denied = response.denied_response
    assert (response.status.code, denied.status.code, denied.body, pairs(denied.headers)) == (
        7,
        429,
        "no",
        [("a", "b")],
    )
    assert dict(response.dynamic_metadata) == {"reason": "why", "decision_id": "id", "answered": True}
    assert dict(deny(Verdict(False), "why", "id").dynamic_metadata) == {"reason": "why", "decision_id": "id"}
