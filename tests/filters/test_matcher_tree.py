from __future__ import annotations

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import rbac_config_v3
from isthmus.filters.matcher_tree import build_tree, filter_state, header


def _action(name):
    return rbac_config_v3.Action(name=name)


def test_each_key_has_its_action_and_the_empty_one_is_for_the_rest():
    built = build_tree(header(":path"), {"": _action("rest"), "/a": _action("a"), "/b": _action("b")})
    tree = built.matcher_tree
    assert unpack(tree.input.typed_config).header_name == ":path"
    acts = {key: unpack(found.action.typed_config).name for key, found in tree.prefix_match_map.map.items()}
    assert acts == {"/a": "a", "/b": "b"}
    assert unpack(built.on_no_match.action.typed_config).name == "rest"


def test_without_an_action_for_the_rest_nothing_is_done():
    built = build_tree(filter_state("peer"), {"/a": _action("a")})
    assert not built.HasField("on_no_match")
    assert unpack(built.matcher_tree.input.typed_config).key == "peer"
