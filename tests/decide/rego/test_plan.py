from __future__ import annotations

from typing import Any

from isthmus.decide.rego.plan import is_rule, problems

PARAMETERS = [0, 1]


def plan(*statements: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    block = {"stmts": [{"type": type_, "stmt": {**stmt, "file": 0, "row": 4}} for type_, stmt in statements]}
    return {
        "static": {"files": [{"value": "p.rego"}]},
        "plans": {"plans": [{"name": "p/v", "blocks": [block]}]},
        "funcs": {"funcs": [{"name": "g0.data.p.v", "params": PARAMETERS, "blocks": [block]}]},
    }


def call(name: str, *arguments: int, result: int = 9) -> tuple[str, dict[str, Any]]:
    return "CallStmt", {"func": name, "args": [{"type": "local", "value": one} for one in arguments], "result": result}


def found(*statements: tuple[str, dict[str, Any]]) -> tuple[str, ...]:
    return problems(plan(*statements), {"count", "opa.runtime"}.__contains__)


def test_calls_are_known_or_named() -> None:
    assert found(call("count", 0), call("g0.data.p.v", 0), call("internal.print")) == ()
    assert found(call("net.cidr_contains")) == ("p.rego:5: the engine has no function net.cidr_contains",)
    assert "may not be called" in found(call("opa.runtime"))[0]
    assert "computed" in found(("CallDynamicStmt", {"args": [], "result": 3}))[0]


def test_a_local_is_written_before_it_is_read() -> None:
    read = ("AssignVarStmt", {"source": {"type": "local", "value": 5}, "target": 6})
    assert found(call("count", 0, result=5), read) == ()
    assert len(found(read)) == 1
    scan = ("ScanStmt", {"source": 0, "key": 4, "value": 5, "block": {"stmts": [{"type": read[0], "stmt": read[1]}]}})
    assert found(scan) == ()
    assert len(found(("ScanStmt", {"source": 7, "key": 4, "value": 5}))) == 1
    assert len(found(("NotStmt", {"block": {"stmts": [{"type": read[0], "stmt": read[1]}]}}))) == 1


def test_a_rule_is_called_by_its_plan() -> None:
    assert is_rule(plan(call("g0.data.p.v", 0, 1)), "p/v")
    assert not is_rule(plan(call("g0.data.p.v", 0, 1)), "p/w")
    assert not is_rule(plan(("DotStmt", {"source": {"type": "local", "value": 1}, "target": 2})), "p/v")
