from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.decide.rego.load import examine, examine_all, load_policy
from isthmus.decide.rego.source import Module, Policy
from isthmus.errors import PolicyBroken

MANIFEST = """\
apiVersion: isthmus.dev/v1alpha1
kind: RegoPolicy
metadata: {name: authz}
spec:
  rego: "package m"
  data: {own: 1}
---
apiVersion: v1
kind: Service
metadata: {name: orders}
"""
ABORTS = """\
package p
default allow := false
allow if input.user in data.admins
v if { allow with input as {"user": "bob"} with data.admins as ["bob"] }
"""
"""What rego-cpp 1.5.2 does not survive."""


def test_modules_manifests_and_data_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.rego").write_text("package a")
    (tmp_path / "sub" / "b.rego").write_text("package b")
    (tmp_path / "sub" / "data.json").write_text('{"deep": {"x": 1}}')
    (tmp_path / "more.yaml").write_text("deep: {y: 2}")
    (tmp_path / "policy.yaml").write_text(MANIFEST)
    found = load_policy([tmp_path])
    assert sorted(module.text for module in found.modules) == ["package a", "package b", "package m"]
    assert f"{tmp_path}/policy.yaml#authz" in [module.file for module in found.modules]
    assert found.data == {"deep": {"x": 1, "y": 2}, "own": 1}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("data.json", b"{", "neither JSON nor YAML"),
        ("a.rego", b"\xff", "not UTF-8"),
        ("data.yaml", b"x: 1\n---\nx: 2", "something else of data.x"),
        ("data.yaml", b"x: 1", "no Rego"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PolicyBroken, match=said):
        load_policy([tmp_path])


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(PolicyBroken, match="No such file"):
        load_policy([Path("/nowhere/a.rego")])


async def test_the_engine_is_asked_apart_and_one_that_ends_is_an_answer() -> None:
    good = Policy("p", (Module("p.rego", "package p\nv := data.x"),), {"x": 1})
    aborts = Policy("p", (Module("p.rego", ABORTS),))
    first, second, third, fourth = await examine_all([(good, "p/v"), (aborts, "p/v"), (good, "p/w"), (good, "p/v")])
    assert (first, third, fourth) == (None, "there is no rule data.p.w", None)
    assert second is not None
    assert "ended while it tried" in second
    assert await examine_all([]) == []
    assert await examine(good, "p/v") is None
