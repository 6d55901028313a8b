from __future__ import annotations

import threading
from typing import Any

import pytest

from isthmus.decide.rego.engine import DROP, MASK, UNDEFINED, Engine, compile_policy
from isthmus.decide.rego.give import MOST_NESTED
from isthmus.decide.rego.source import Module, Policy
from isthmus.errors import PolicyBroken, Undecided

STRINGS = [
    'a"b',
    "a\nb",
    "a\0b",
    "a\\b",
    "\\u0061",
    "é",
    "\u2028",
    "\x01",
    "\U0001f600",
    "{{x}}",
    "`",
    "1 with input as 3",
]
NUMBERS = [0, -1, 2**53 + 1, 2**70, -(2**63), 1.5, 123456.789012345, 1e300, 1e-7]


def compiled(text: str, path: str = "p/v", **data: Any) -> Engine:
    return compile_policy(Policy("shop/p", (Module("p.rego", f"package p\n{text}"),), data), (path,))


def value(text: str, document: Any = None, **data: Any) -> Any:
    return compiled(text, **data).evaluate("p/v", document or {})


def broken(text: str, **data: Any) -> str:
    with pytest.raises(PolicyBroken) as found:
        compiled(text, **data)
    return str(found.value)


@pytest.mark.parametrize("written", [*STRINGS, *NUMBERS, None, True, [], {}, [1, {"a": [None]}], {'k"\n': 1}])
def test_an_input_arrives_as_it_is(written: Any) -> None:
    assert value("v := input.x", {"x": written}) == written


@pytest.mark.parametrize("written", [*STRINGS, 2**70, 1.5, 1e300, {"a": ["é"]}])
def test_input_and_data_are_compared_right(written: Any) -> None:
    assert value("v if input.x == data.x", {"x": written}, x=written) is True


def test_literals_are_compared_however_they_are_escaped() -> None:
    assert value(r'v if input.x == "\u0061\/\u00e9"', {"x": "a/é"}) is True


def test_a_string_is_not_cut_off_at_a_nul() -> None:
    assert value('v if input.x == "admin"', {"x": "admin\0"}) is UNDEFINED


def test_a_large_number_is_not_another() -> None:
    assert value("v if input.x == 5", {"x": 2**64 + 5}) is UNDEFINED


def test_half_a_surrogate_pair_is_replaced_as_in_go() -> None:
    assert value("v := input.x", {"x": "\ud800", "big": 2**70}) == "\ufffd"


def test_undefined_is_told_from_false() -> None:
    assert value("v if input.x") is UNDEFINED
    assert value("default v := false") is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'v if not net.cidr_contains("10.0.0.0/8", input.ip)',
            "p.rego:2: the engine has no function net.cidr_contains",
        ),
        ('v if http.send({"method": "get", "url": "http://x"})', "p.rego:2: the engine has no function http.send"),
        ("v := opa.runtime().env", "p.rego:2: opa.runtime may not be called"),
        ("v if no_such(1)", "the engine has no function no_such"),
        ("v if not startswith(input.x, admin)", "p.rego:2: a variable that nothing binds is used"),
        ("v if not input.x == admin", "p.rego:2: a variable that nothing binds is used"),
        ("v if admin", "a variable that nothing binds is used"),
        ("v ===", "p.rego:2: "),
        ("other := 1", "there is no rule data.p.v"),
        (f"v := {'[' * 200}{']' * 200}", "nested deeper"),
        ("v := 1\0", "holds no NUL"),
    ],
)
def test_what_opa_would_not_compile_is_refused(text: str, said: str) -> None:
    assert said in broken(text)


def test_a_function_in_any_module_counts() -> None:
    modules = (Module("p.rego", "package p\nv := true"), Module("q.rego", "package q\nf if not http.send({})"))
    with pytest.raises(PolicyBroken, match="the engine has no function http"):
        compile_policy(Policy("shop/p", modules), ("p/v",))


def test_data_that_the_engine_cannot_read_is_refused() -> None:
    assert "1.5e-09" in broken("v := data.x", x=1.5e-9)
    deep: Any = 1
    for _ in range(MOST_NESTED + 1):
        deep = [deep]
    assert "nested deeper" in broken("v := data.x", x=deep)


def test_what_is_nested_too_deep_never_reaches_the_engine() -> None:
    deep: Any = 2**70
    for _ in range(20_000):
        deep = [deep]
    with pytest.raises(Undecided, match="nested deeper"):
        value("v if input.deep", {"big": 2**70, "deep": deep})
    # A rule that does not look at it is not given it.
    assert value("v := true", {"big": 2**70, "deep": deep}) is True


def test_a_contradiction_is_no_answer() -> None:
    with pytest.raises(Undecided):
        value("v := 1\nv := 2")


def test_rules_of_the_decision_log_are_asked_too() -> None:
    modules = (
        Module("p.rego", "package p\nv := true"),
        Module("l.rego", 'package system.log\nmask contains "/input/x"'),
    )
    engine = compile_policy(Policy("shop/p", modules), ("p/v",))
    assert (engine.has(MASK), engine.has(DROP)) == (True, False)
    assert engine.evaluate(MASK, {}) == ["/input/x"]
    assert engine.evaluate(DROP, {}) is UNDEFINED


def test_threads_do_not_see_each_others_input() -> None:
    engine = compiled("v := input.x")
    wrong: list[int] = []

    def ask(own: int) -> None:
        wrong.extend(own for _ in range(300) if engine.evaluate("p/v", {"x": own}) != own)

    threads = [threading.Thread(target=ask, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
