from __future__ import annotations

import subprocess
import sys

import pytest

_ASK = """
from isthmus.decide.rego.engine import compile_policy
from isthmus.decide.rego.source import Module, Policy
policy = Policy("p", (Module("p.rego", "package p\\nv if glob.match('a/*', ['/'], input.x)".replace("'", '"')),))
for _ in range(20):
    assert compile_policy(policy, ("p/v",)).evaluate("p/v", {"x": "a/b"}) is True
"""


@pytest.mark.parametrize("other", ["grpc.aio", "google.protobuf.descriptor_pool", "ssl"])
def test_it_lives_beside_other_libraries_in_cpp(other: str) -> None:
    ran = subprocess.run((sys.executable, "-c", f"import {other}\n{_ASK}"), capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
