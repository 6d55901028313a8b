from __future__ import annotations

from isthmus.config.node import Node, below
from isthmus.diag import Ref, Source

from .writing import parsed


def test_paths_quote_what_would_mislead() -> None:
    assert below("", "spec") == "spec"
    assert below("metadata.labels", "app") == "metadata.labels.app"
    assert below("metadata.labels", "a.b/c") == 'metadata.labels["a.b/c"]'
    assert below("", 'say "x"') == '["say \\"x\\""]'
    assert below("data", "") == 'data[""]'


def test_get_and_at() -> None:
    root = parsed("a:\n  - b: 1\n  - c\n")
    assert root.at("a", 0, "b").value == 1
    assert root.get("a", 5) is None
    assert root.get("a", "x") is None
    assert root.get("x", 0) is None
    assert root.at("a", 1, "deep", "er") is root.get("a", 1)


def test_kinds_of_node() -> None:
    root = parsed("a: [1]\n")
    assert (root.is_mapping, root.is_sequence, root.items) == (True, False, ())
    assert (root.at("a").is_mapping, root.at("a").is_sequence, root.at("a").mapping) == (False, True, {})


def test_a_key_has_its_own_place_and_an_absent_one_the_mapping_s() -> None:
    root = parsed("x: 1\nlabels:\n  a.b: 2\n")
    key = root.at("labels").key("a.b")
    assert (str(key.source), key.path) == ("t.yaml:3:3", 'labels["a.b"]')
    assert root.at("labels").key("none").source == root.at("labels").source


def test_moved_changes_paths_and_ref_and_nothing_else() -> None:
    ref = Ref("Service", "shop", "cart")
    root = parsed("items:\n  - a: [x, y]\n    b.c: 1\n")
    moved = root.at("items", 0).moved("", ref)
    assert [node.path for node in moved.walk()] == ["", "a", "a[0]", "a[1]", '["b.c"]']
    assert {node.ref for node in moved.walk()} == {ref}
    assert [n.source for n in moved.walk()] == [n.source for n in root.at("items", 0).walk()]
    assert moved.keys == root.at("items", 0).keys
    assert moved.key("a").ref == ref
    assert {node.ref for node in root.walk()} == {None}


def test_a_node_made_by_hand_has_no_keys() -> None:
    assert Node("x", Source("f", 1, 1)).keys == {}


def test_the_place_of_a_character_of_a_string() -> None:
    root = parsed("a: plain\nb: 'quoted'\nc: |\n\n   first\n   second\nd: >-\n  folded\n  text\n")

    def place(key: str, line: int, column: int) -> str:
        return str(root.at(key).moved("x", None).inside(line, column).source)

    assert [place("a", 1, 1), place("a", 1, 3)] == ["t.yaml:1:4", "t.yaml:1:6"]
    assert [place("b", 1, 1), place("b", 1, 3)] == ["t.yaml:2:5", "t.yaml:2:7"]
    assert root.at("c").value == "\nfirst\nsecond\n"
    assert [place("c", 2, 1), place("c", 3, 4)] == ["t.yaml:5:4", "t.yaml:6:7"]
    assert place("d", 1, 2) == "t.yaml:8:4"
