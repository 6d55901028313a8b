from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.ads.versions import Acked, Told
from isthmus.envoy_api.packages import cluster_v3
from isthmus.xds.snapshot import CLUSTER, NO_LAYER, Built, Layer, build, layer, snapshot

NAMES = "abcdef"
_BUILT = {
    (name, version): build(name, cluster_v3.Cluster(name=name, alt_stat_name=version))
    for name in NAMES
    for version in "12"
}
_LAYERS: dict[tuple[tuple[str, str], ...], Layer] = {}
CONTENTS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from("12"))


def layered(shared: dict[str, str], own: dict[str, str]) -> dict[str, Built]:
    """The clusters of a snapshot with these; equal layers are one."""
    key = tuple(sorted(shared.items()))
    common = _LAYERS.setdefault(key, layer(_BUILT[pair] for pair in key)) if key else NO_LAYER
    return snapshot((_BUILT[pair] for pair in own.items()), common).of(CLUSTER)  # type: ignore[return-value]


STEPS = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(NAMES), st.sampled_from("12")),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("rebase"), CONTENTS, CONTENTS),
    st.tuples(st.just("equal and rebase"), CONTENTS, CONTENTS),
)


@given(st.lists(STEPS, max_size=12), CONTENTS, CONTENTS)
def test_it_is_a_dict_whatever_it_shares(
    steps: list[tuple[object, ...]], shared: dict[str, str], own: dict[str, str]
) -> None:
    told, plain = Told(), {}
    for step in steps:
        match step:
            case ("set", name, version):
                told[name] = plain[name] = _BUILT[name, version].version
            case ("remove", name):
                told[name] = plain[name] = None
            case ("delete", name):
                assert told.pop(name, "absent") == plain.pop(name, "absent")
            case ("rebase", shared_, own_):
                told.rebase(layered(shared_, own_))
            case (_, shared_, own_):
                resources = layered(shared_, own_)
                plain = {name: built.version for name, built in resources.items()}
                for name in [name for name in told if name not in plain]:
                    del told[name]
                told.update(plain)
                told.rebase(resources)
                assert told.is_just(resources)
        assert dict(told) == plain
        assert (len(told), bool(told), set(told)) == (len(plain), bool(plain), set(plain))
        assert all(told.get(name, "absent") == plain.get(name, "absent") for name in NAMES)
    resources = layered(shared, own)
    differing = {name for name in NAMES if plain.get(name) != (resources[name].version if name in resources else None)}
    assert differing <= set(told.suspects(resources))
    assert told == told.copy()


def test_a_copy_stays_as_it_is() -> None:
    acked = Acked()
    acked["a"] = "1"
    copy = acked.copy()
    acked["a"] = "2"
    assert dict(copy) == {"a": "1"}
    assert copy != acked
    with pytest.raises(KeyError):
        del acked["b"]
