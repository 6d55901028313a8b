"""What a policy reads of its input, and that it says the same of that as of all of it."""

from __future__ import annotations

from typing import Any

import pytest

from isthmus.decide.rego.engine import compile_policy
from isthmus.decide.rego.need import Need, needed, reads
from isthmus.decide.rego.source import Module, Policy

INPUT: dict[str, Any] = {
    "attributes": {"request": {"http": {"method": "GET", "headers": {"x-a": "1"}}}, "source": {"principal": "p"}},
    "parsed_path": ["users", "alice"],
    "parsed_query": {"a": ["1", "2"]},
    "parsed_body": None,
    "truncated_body": False,
    'odd "key"': 1,
    "a.b": {"c": 2},
    "": 3,
}
HTTP = {"attributes": {"request": {"http": {"method": None}}}}


def engine_of(rules: str, *paths: str) -> Any:
    module = Module("p.rego", f"package p\n\nimport rego.v1\n\n{rules}\n")
    return compile_policy(Policy("shop/p", (module,)), paths or ("p/v",))


def need_of(rules: str) -> Need | None:
    found: Need | None = engine_of(rules)._need
    return found


@pytest.mark.parametrize(
    ("rules", "need"),
    [
        ("v := true", {}),
        ('v if input.attributes.request.http.method == "GET"', HTTP),
        ('import input.attributes.request.http as h\n\nv if h.method == "GET"', HTTP),
        (
            "v if f(input.attributes.request.http.method)\n\nf(x) if x == input.truncated_body",
            HTTP | {"truncated_body": None},
        ),
        ("v if input.parsed_path[0]", {"parsed_path": None}),
        ('v if input.parsed_query.a[_] == "1"', {"parsed_query": {"a": None}}),
        ("v if {\n\tsome k\n\tinput.parsed_query[k]\n}", {"parsed_query": None}),
        ("v := [x | walk(input.attributes.source, [_, x])]", {"attributes": {"source": None}}),
        ("v if input.attributes.request\n\nw := input.attributes", {"attributes": None}),
        ("c := input.attributes.request\n\nv := c.http", {"attributes": {"request": None}}),
        ('v := input["a.b"].c', {"a.b": {"c": None}}),
        # Keys whose form in the plan nobody knows, keys that are computed, and inputs that are replaced.
        ('v := input["odd \\"key\\""]', None),
        ('v if {\n\tsome k in ["a.b"]\n\tinput[k]\n}', None),
        ("v := input", None),
        ("v := count(input)", None),
        ("v := [x | some x in input]", None),
        ('v if g with input as {"a": 1}\n\ng if input.a == 1', None),
        ("v if g with input.a as 1\n\ng if input.a == 1", None),
    ],
)
def test_what_is_read(rules: str, need: Need | None) -> None:
    engine = engine_of(rules)
    assert engine._need == need
    said = engine.evaluate("p/v", INPUT)
    engine._need = None
    assert engine.evaluate("p/v", INPUT) == said


def test_that_something_is_there_is_read_too() -> None:
    plan = {
        "static": {"strings": [{"value": "a"}, {"value": "b"}]},
        "plans": {"plans": []},
        "funcs": {"funcs": [{"name": "f", "params": [0, 1], "blocks": [{"stmts": [_dot(0, 0, 2), _dot(2, 1, 3)]}]}]},
    }
    assert reads(plan) == {"a": {"b": {}}}
    assert needed({"a": {"b": {"c": 1}, "d": 2}}, {"a": {"b": {}}}) == {"a": {"b": {}}}
    assert needed({"a": 1}, {"a": {"b": {}}}) == {"a": 1}
    assert needed({"a": {}}, {"a": {"b": None}, "z": None}) == {"a": {}}
    assert needed([1], {"a": None}) == [1]


def test_a_variable_may_be_written_behind_where_it_is_read() -> None:
    blocks = [{"stmts": [_dot(3, 1, 4), {"type": "ReturnLocalStmt", "stmt": {"source": 4}}, _dot(0, 0, 3)]}]
    plan = {
        "static": {"strings": [{"value": "a"}, {"value": "b"}]},
        "plans": {"plans": []},
        "funcs": {"funcs": [{"name": "f", "params": [0, 1], "blocks": blocks}]},
    }
    assert reads(plan) == {"a": {"b": None}}


def test_a_function_that_is_handed_the_input_elsewhere_reads_all_of_it() -> None:
    call = {
        "type": "CallStmt",
        "stmt": {"func": "f", "args": [{"type": "local", "value": 1}, {"type": "local", "value": 0}]},
    }
    plan = {
        "static": {"strings": []},
        "plans": {"plans": [{"name": "p/v", "blocks": [{"stmts": [call]}]}]},
        "funcs": {"funcs": [{"name": "f", "params": [0, 1], "blocks": []}]},
    }
    assert reads(plan) is None


def test_what_chooses_a_rule_is_read_whole() -> None:
    call = {"type": "CallDynamicStmt", "stmt": {"path": [{"type": "local", "value": 2}], "args": [], "result": 3}}
    plan = {
        "static": {"strings": [{"value": "a"}]},
        "plans": {"plans": [{"name": "p/v", "blocks": [{"stmts": [_dot(0, 0, 2), call]}]}]},
        "funcs": {"funcs": []},
    }
    assert reads(plan) == {"a": None}


def _dot(source: int, key: int, target: int) -> dict[str, Any]:
    return {
        "type": "DotStmt",
        "stmt": {
            "source": {"type": "local", "value": source},
            "key": {"type": "string_index", "value": key},
            "target": target,
        },
    }
