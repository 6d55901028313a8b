from __future__ import annotations

from typing import Any

import pytest

from isthmus.decide.rego.document import Unparsable, canonical, read_json, read_structured


def written(path: str, content: str) -> str:
    """As it is hashed."""
    return b"".join(canonical(read_structured(path, content.encode(), literal=True))).decode()


def test_json_is_hashed_without_what_means_nothing() -> None:
    assert written("data.json", ' {"b": [1, true, null],\n "a": {"z": "x", "Z": {}}} ') == (
        '{"a":{"Z":{},"z":"x"},"b":[1,true,null]}'
    )


def test_numbers_are_hashed_as_they_are_written() -> None:
    assert written("data.json", "[1, 1.0, 1e3, 1.5E+10, -0, 12345678901234567890123]") == (
        "[1,1.0,1e3,1.5E+10,-0,12345678901234567890123]"
    )


def test_strings_are_hashed_as_gos_encoder_writes_them() -> None:
    assert written("data.json", r'"<a>&\" \u2028\u2029 \u00e4 \t\n\u0001\u007f \ud83d\ude00 \ud800"') == (
        '"<a>&\\" \\u2028\\u2029 ä \\t\\n\\u0001\x7f 😀 \ufffd"'
    )


@pytest.mark.parametrize(
    ("yaml", "json"),
    [
        ("[yes, no, On, off, y, N, ~, null, true]", "[true,false,true,false,true,false,null,null,true]"),
        ("[2024-01-02, 10:30, 1e3, 08, 010, 0x1F, 1_000, .5]", '["2024-01-02","10:30",1000,8,8,31,1000,0.5]'),
        ("[1.0, 1e20, 1e21, 1.5e-7, 0.000001, -0.0]", "[1,100000000000000000000,1e+21,1.5e-7,0.000001,-0]"),
        ("{1: a, true: b, x: c}", '{"1":"a","true":"b","x":"c"}'),
        ("{a: &x [1], b: *x}", '{"a":[1],"b":[1]}'),
        ("18446744073709551616", "18446744073709552000"),
    ],
)
def test_yaml_is_read_as_opa_reads_it(yaml: str, json: str) -> None:
    assert written("data.yaml", yaml) == json


def test_values_for_the_engine_are_plain() -> None:
    assert read_structured("a/data.yml", b"a: 1.0\nb: [2.5, 1e3]\n") == {"a": 1, "b": [2.5, 1000]}
    assert read_json(b'\xef\xbb\xbf{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{} {}", b"NaN", b"[1e999]", b'"\xff"', b"[" * 100_000, b"-Infinity", b"'a'"]
)
def test_what_is_not_json(content: bytes) -> None:
    with pytest.raises(Unparsable):
        read_json(content)


@pytest.mark.parametrize(
    "content",
    [
        *(b"a: [", b"? [1]\n: 2", b"{1.5: a}", b"!!python/object:os.system {}", b".inf", b"a: !!binary aGk=", b"\xff"),
        *(b"--- 1\n--- 2", b"a: &a [*a]"),
    ],
)
def test_what_is_not_yaml_or_not_of_json(content: bytes) -> None:
    with pytest.raises(Unparsable):
        read_structured("data.yaml", content)


def test_a_kilobyte_of_yaml_is_not_a_billion_values() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(Unparsable, match="more than"):
        read_structured("data.yaml", "\n".join(lines).encode())


def test_deep_documents() -> None:
    deep: Any = 1
    for _ in range(150):
        deep = [deep]
    assert read_structured("data.yaml", str(deep).encode()) == deep
    with pytest.raises(Unparsable, match="deep"):
        read_structured("data.yaml", b"[" * 250 + b"]" * 250)
